"""The definition, in plain torch. With float64 inputs it is the oracle of the tests."""

from __future__ import annotations

from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from .sums import largest, moved


def sinkhorn_reference(
    logits: Tensor, epsilon: float | Tensor, iterations: int, rows: Tensor | None
) -> Tensor:
    """(C, K) from logits (C, N, K). Computes in ``promote_types(dtype, float32)``."""
    x = logits.to(accumulation_dtype(logits))
    if rows is not None:
        x = x[:, : max(0, int(rows))]
    with full_precision(x):
        center = moved(0.0, (x / epsilon).logsumexp(1), epsilon)
        relative: Tensor | float = 0.0
        for _ in range(iterations - 1):
            plan = ((x - center[:, None]) / epsilon).softmax(2)
            log_mass = plan.sum(1).log()
            center = moved(center, log_mass - relative, epsilon)
            relative = largest(log_mass)
        return center
