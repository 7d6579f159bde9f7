"""The torch operator: schema, fake, and the iterations over one of the implementations.

Every implementation has the same three passes: ``columns``, ``rows`` and ``masses``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, accumulation_dtype, operator, plain
from ...distributed import Ranks, stack_ranks
from .kernels import kernels as kernels_of
from .kernels import whole
from .reference import sinkhorn_reference
from .sums import largest, moved


def _sinkhorn(
    logits: Tensor,
    on_device: Tensor | None,
    number: float,
    iterations: int,
    rows: Tensor | None,
    impl: str,
    *ranks: Any,
) -> Any:
    epsilon = number if on_device is None else on_device
    with plain(logits):
        if impl == "reference":
            return sinkhorn_reference(logits, epsilon, iterations, rows)
        if (iterate := whole(impl)) and not any(ranks):
            return iterate(logits, epsilon, iterations, rows)
        kernels = kernels_of(impl)
        log_mass = over_ranks(kernels.columns(logits, epsilon, rows).log(), *ranks)
        center = moved(0.0, log_mass, epsilon)
        relative: Tensor | float = 0.0
        for _ in range(iterations - 1):
            log_mass = over_ranks(kernels.masses(logits, center, epsilon, rows).log(), *ranks)
            center = moved(center, log_mass - relative, epsilon)
            relative = largest(log_mass)
        return center


def over_ranks(x: Tensor, *ranks: Any) -> Tensor:
    """The log-sum-exp over ranks, elementwise."""
    return torch.logsumexp(stack_ranks(x, Ranks(*ranks)), 0) if any(ranks) else x


def _fake(logits: Tensor, *__: Any) -> Tensor:
    groups, _, width = logits.shape
    return logits.new_empty((groups, width), dtype=accumulation_dtype(logits))


sinkhorn_op = operator(
    "sinkhorn(Tensor logits, Tensor? on_device, float epsilon, int iterations, Tensor? rows,"
    f" str impl, {RANKS}) -> Tensor",
    _sinkhorn,
    _fake,
)
