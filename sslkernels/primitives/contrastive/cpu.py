"""One call of the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .problem import Contrastive

if TYPE_CHECKING:
    from .op import Wanted

FORMS = {"cross_entropy": 0, "decoupled": 1, "sigmoid": 2}
WORKSPACE = 64 << 20  # bytes: scores that fit are kept for the gradients, larger ones made again
NO_MATRIX = (0, 0, 0, 0, 0, 0)


def contrastive(p: Contrastive, wanted: Wanted) -> tuple[Tensor, Tensor]:
    weights = None if p.weights is None else p.weights.to(torch.float32).contiguous()
    query, other, key, positive, *scalars = wanted.sizes(p)
    loss = p.query.new_empty((), dtype=torch.float32)
    derivatives = p.query.new_empty(
        query + other + key + positive + sum(scalars), dtype=torch.float32
    )
    start = derivatives.data_ptr()
    ends = (query + other, query + other + key, query + other + key + positive)
    starts = [start, *(start + 4 * end for end in ends)]  # of queries, keys, positives, scalars
    extension().contrastive(
        [matrix(p.query)] if p.other is None else [matrix(p.query), matrix(p.other)],
        NO_MATRIX if p.key is None else matrix(p.key),
        NO_MATRIX if p.positive is None else matrix(p.positive),
        (p.offset, address(p.labels), address(weights)),
        p.exclude,
        (FORMS[p.form], p.columns, p.skip_alone),
        (p.unit_query, p.unit_key, p.unit_positive),
        float(p.scale),
        float(p.bias),
        torch.get_num_threads(),
        WORKSPACE,
        loss.data_ptr(),
        [at if want else 0 for at, want in zip(starts, wanted, strict=True)],
    )
    return loss, derivatives
