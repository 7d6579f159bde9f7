"""InfoNCE in one direction: each query is matched to its key."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_choice, check_devices, check_temperature, check_tensors
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather
from ...primitives._rows import dot
from ...primitives.contrastive import Contrastive, contrastive_loss, contrastive_rows
from .._common import (
    Gathering,
    GatheringLoss,
    as_scalar,
    check_embeddings,
    cross_entropy,
    inverse,
    mean_loss,
    unit,
)

REDUCTIONS = ("mean", "sum", "none")
NEGATIVE_MODES = ("unpaired", "paired")


def info_nce(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    reduction: str = "mean",
    negative_mode: str = "unpaired",
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) from queries to keys.

    ``log Σ_{k ∈ keys of i} e^(q_i·k/T) − q_i·p_i/T`` for each query i. Its keys are all positive
    keys of the batch or, if negatives are given, its own positive and those negatives. Queries
    and keys are normalised here.

    Args:
        query: (N, D).
        positive_key: (N, D).
        negative_keys: None; (M, D), shared by all queries (``"unpaired"``); or (N, M, D), one set
            per query (``"paired"``).
        temperature: T, a number or one-element tensor.
        reduction: ``"mean"``, ``"sum"`` (over this rank's queries) or ``"none"``.
        negative_mode: ``"unpaired"`` or ``"paired"``, the shape of ``negative_keys``.
        gather: the ranks whose positive keys (or unpaired negatives) are negatives too.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar or (N,), in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(query=query, positive_key=positive_key)
    check_temperature(temperature=temperature)
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("negative_mode", negative_mode, NEGATIVE_MODES)
    _check_negatives(negative_keys, negative_mode, query)
    if negative_mode == "paired" and negative_keys is not None:
        rows = _paired(query, positive_key, negative_keys, temperature, gather)
        if reduction == "mean":
            return mean_loss(rows, query, gather)
    else:
        scale = inverse(temperature, query)
        if negative_keys is None:
            problem = Contrastive(query, key=positive_key, scale=scale, exclude=(0,))
        else:
            problem = Contrastive(query, key=negative_keys, positive=positive_key, scale=scale)
        if reduction == "mean":
            return contrastive_loss(problem, gather=gather, impl=impl)
        rows = contrastive_rows(problem, gather=gather, impl=impl)
    return (rows.sum() if reduction == "sum" else rows).to(accumulation_dtype(query))


def _paired(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor,
    temperature: float | Tensor,
    gather: Gather | None,
) -> Tensor:
    temperature, dtype = as_scalar(temperature, query), accumulation_dtype(query)
    with full_precision(query):
        query, positive_key = unit(query, gather), unit(positive_key, gather)
        keys = unit(negative_keys.flatten(0, 1)).view_as(negative_keys)
        scores = torch.einsum("nd,nmd->nm", query.to(dtype), keys.to(dtype))
        negatives = torch.logsumexp(scores.double() / temperature, 1)
        return cross_entropy(dot(query, positive_key) / temperature, negatives)


class InfoNCELoss(GatheringLoss):
    """InfoNCE as a module: constructor, defaults and values of ``info_nce.InfoNCE``.

    Formula, shapes and errors: :func:`sslkernels.functional.info_nce`.

    Args:
        temperature: T, a number or one-element tensor or parameter.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        negative_mode: ``"unpaired"`` or ``"paired"``, the shape of the negatives.
        gather_distributed: take the other ranks' keys as negatives.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        reduction: str = "mean",
        negative_mode: str = "unpaired",
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        check_choice("reduction", reduction, REDUCTIONS)
        check_choice("negative_mode", negative_mode, NEGATIVE_MODES)
        self.temperature = temperature
        self.reduction = reduction
        self.negative_mode = negative_mode

    def forward(
        self, query: Tensor, positive_key: Tensor, negative_keys: Tensor | None = None
    ) -> Tensor:
        """Return the loss of queries (N, D), positives (N, D) and, if any, negatives."""
        return info_nce(
            query,
            positive_key,
            negative_keys,
            self.temperature,
            self.reduction,
            self.negative_mode,
            gather=self.gather,
            impl=self.impl,
        )


def _check_negatives(negative_keys: Tensor | None, mode: str, query: Tensor) -> None:
    if negative_keys is None:
        return
    check_tensors(negative_keys=negative_keys)
    check_devices(query=query, negative_keys=negative_keys)
    (n, d), shape = query.shape, negative_keys.shape
    wanted = 3 if mode == "paired" else 2
    if len(shape) != wanted or shape[-1] != d or (wanted == 3 and shape[0] != n) or 0 in shape:
        expected = f"({n}, M, {d})" if mode == "paired" else f"(M, {d})"
        raise ValueError(
            f"{mode} negative_keys must be {expected} with M at least 1, got {tuple(shape)}"
        )
    if negative_keys.dtype != query.dtype:
        raise TypeError(
            f"negative_keys must have the queries' dtype {query.dtype}, got {negative_keys.dtype}"
        )
