"""The sum of singular values, with its smallest subgradient where it is not differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._operator import Differentiable, operator


def nuclear_norm(x: Tensor) -> Tensor:
    """Sum of the singular values of float32 or float64 matrices (…, m, n); shape (…).

    The gradient is the polar factor U Vᵀ without the directions whose singular value is zero, so
    it is finite for every matrix. float32 goes through the smaller Gram matrix in float64, whose
    eigenvalues are the squares: an error of 1e-8 in the singular values, below float32's own.
    """
    return _NuclearNorm.apply(x)[0]


def nonzero(singular_values: Tensor, longer_side: int) -> Tensor:
    """A mask of the singular values above rounding error, in any order along the last dimension."""
    tolerance = longer_side * torch.finfo(singular_values.dtype).eps
    return singular_values > tolerance * singular_values.amax(-1, keepdim=True)


class _NuclearNorm(Differentiable):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        norm, polar = _norm_and_polar_op(x)
        return norm, polar

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(output[1], *inputs)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def gradients(
        ctx: Any, saved: tuple[Tensor, ...], grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        return (grad[..., None, None] * saved[0],)


def _norm_and_polar(x: Tensor) -> tuple[Tensor, Tensor]:
    m, n = x.shape[-2:]
    if x.dtype == torch.float64:
        u, values, vh = torch.linalg.svd(x, full_matrices=False)
        kept = nonzero(values, max(m, n))
        return values.sum(-1), (u * kept[..., None, :]) @ vh
    if m > n:
        norm, polar = _norm_and_polar(x.mT)
        return norm, polar.mT.contiguous()
    wide = x.double()
    squares, u = torch.linalg.eigh(wide @ wide.mT)
    kept = nonzero(squares, n)
    values = squares.clamp_min(0).sqrt()
    inverses = torch.where(kept, 1 / values, 0)
    polar = (u * inverses[..., None, :]) @ (u.mT @ wide)
    return values.sum(-1).to(x.dtype), polar.to(x.dtype)


# An operator, so that torch.compile does not specialise on which side is longer.
_norm_and_polar_op: Callable[[Tensor], tuple[Tensor, Tensor]] = operator(
    "norm_and_polar(Tensor x) -> (Tensor, Tensor)",
    _norm_and_polar,
    lambda x: (x.new_empty(x.shape[:-2]), x.new_empty(x.shape)),
)
