"""The same losses composed of the pairwise primitives: any device and dtype, all ranks' rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, all_reduce, ranks_of, scale_gradient, share_of_mean
from .._rows import dot, unit
from ..pairwise_logsumexp import pairwise_logsumexp
from ..pairwise_softplus import pairwise_softplus
from ..same_label import same_label_sum
from .problem import Contrastive


class Terms(NamedTuple):
    """A loss for every query; 0 for those that are not counted."""

    rows: Tensor  # (n,), float64
    counted: Tensor | None  # (n,), bool; None: all


def loss(problem: Contrastive, gather: Gather | None, impl: str) -> Tensor:
    """This rank's share of the mean, in float32 (float64 if the queries are)."""
    terms, dtype = rows(problem, gather, impl), accumulation_dtype(problem.query)
    total = terms.rows.sum()
    if terms.counted is None:
        return share_of_mean(total, len(terms.rows), gather).to(dtype)
    count, ranks = terms.counted.sum().to(total.dtype), ranks_of(gather)
    if ranks is not None:
        total, count = total * ranks.size, all_reduce(count, "sum", ranks)
    return (total / count.clamp(min=1)).to(dtype)


def rows(problem: Contrastive, gather: Gather | None, impl: str) -> Terms:
    p = problem
    with full_precision(p.query):
        q = p.query if p.other is None else torch.cat([p.query, p.other])
        q = _prepared(q, p.unit_query, gather)
        k = q if p.key is None else _prepared(p.key, p.unit_key, gather)
        scale = _wide(p.scale, q)
        bias = _wide(p.bias, q)
        similarity, counted = _positives(p, q, k, gather)
        positives = scale * similarity + bias
        if p.weights is not None:
            positives = positives * p.weights
        if p.form == "sigmoid":
            negatives = pairwise_softplus(
                q, k, scale, bias, exclude=p.exclude, gather=gather, impl=impl
            )
            return Terms(negatives + F.softplus(-positives, threshold=50), None)
        keys_of = gather if p.gathers_keys else None
        if p.columns:
            sides = pairwise_logsumexp(
                q, k, scale, exclude=p.exclude, columns=True, gather=keys_of, impl=impl
            )
            of_rows, of_columns = (_losses(p, side, positives) for side in sides)
            out = (of_rows + of_columns) / 2
        else:
            side = pairwise_logsumexp(q, k, scale, exclude=p.exclude, gather=keys_of, impl=impl)
            out = _losses(p, side, positives)
        if counted is not None:
            out = out.masked_fill(~counted, 0.0)
        return Terms(out, counted if p.skip_alone else None)


def _losses(p: Contrastive, side: Tensor, positives: Tensor) -> Tensor:
    margins = side - positives
    if p.form == "decoupled":
        return margins
    return F.softplus(margins, threshold=50)  # accurate where a positive dominates


def _positives(
    p: Contrastive, q: Tensor, k: Tensor, gather: Gather | None
) -> tuple[Tensor, Tensor | None]:
    """⟨q_i, its positive⟩ in float64, as their sums cancel, and which rows have a positive."""
    if p.labels is not None:
        wide = q.to(accumulation_dtype(q))
        total, count = same_label_sum(wide, p.labels, gather)
        count = count - 1
        return dot(q, total - q) / count.clamp(min=1), count > 0
    if p.positive is not None:
        return dot(q, _prepared(p.positive, p.unit_positive, gather)), None
    if p.key is None and p.other is not None and p.offset == len(p.query):
        return dot(*q.chunk(2)).repeat(2), None
    return dot(q, k if p.offset == 0 else k.roll(-p.offset, 0)), None


def _wide(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A number unchanged; a tensor in float64, since large terms cancel in its gradient."""
    if not isinstance(value, Tensor):
        return value
    return value.to(x.device, torch.float64).reshape(())


def _prepared(x: Tensor, is_unit: bool, gather: Gather | None) -> Tensor:
    x = scale_gradient(x, gather)
    return unit(x) if is_unit else x
