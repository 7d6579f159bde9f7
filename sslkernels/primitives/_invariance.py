"""The distance of views from the mean of some of them, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._operator import accumulation_dtype, fused_loss, plain


def invariance(
    z: Tensor, centers: int, weight: float, wanted: Sequence[bool], impl: str
) -> tuple[Tensor, Tensor]:
    with plain(z):
        apart = z.to(accumulation_dtype(z))
        apart = apart - apart[:centers].mean(0)
        loss = apart.square().sum() * (weight / apart.numel())
        if not wanted[0]:
            return loss, apart.new_empty(0)
        apart.mul_(2 * weight / apart.numel())
        apart[:centers] -= apart.sum(0).div_(centers)
        return loss, apart.flatten()


_loss = fused_loss(invariance, tensors=1)


def weighted_invariance(z: Tensor, centers: int, weight: float) -> Tensor:
    """``weight · mean (z − c)²`` of views z (V, N, D), with c the mean of the first ``centers``.

    A scalar in float32 (float64 for float64 inputs), regardless of autocast; differentiable once.
    """
    return _loss(z, centers, weight, "torch")
