"""Row-wise operations on matrices."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._operator import Differentiable, accumulation_dtype, full_precision


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a_i, b_i⟩ for every row, as float64."""
    dtype = accumulation_dtype(a)
    return torch.linalg.vecdot(a.to(dtype), b.to(dtype)).double()


def is_finite(x: Tensor) -> Tensor:
    """Whether each row of (…, D) is finite, in one pass."""
    return torch.linalg.vector_norm(x, float("inf"), dim=-1) < float("inf")


def finite_sum(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, int | Tensor]:
    """The sum (D,) of the finite rows of x (N, D), and their number.

    On a GPU, the sum of all rows: finding the others would take more launches than a loss does.
    """
    total = x.sum(0, dtype=dtype)
    if x.is_cuda or (not torch.compiler.is_compiling() and bool(total.isfinite().all())):
        return total, x.shape[0]
    finite = is_finite(x)
    return x.where(finite[:, None], 0.0).sum(0, dtype=dtype), finite.sum()


def _lengths(x: Tensor, dim: int, least: float) -> Tensor:
    """Lengths along ``dim``, which is kept; infinite up to ``least``, so such vectors become 0."""
    norms = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return F.threshold(norms, least, float("inf"))


def normalize(x: Tensor, dim: int = -1, least: float = 1e-12) -> Tensor:
    """:func:`unit` along any dimension, with operations that are differentiable any number of
    times."""
    return x / _lengths(x, dim, least)


def unit(x: Tensor) -> Tensor:
    """Rows of unit length, in x's dtype; a zero row stays zero, and so does its gradient."""
    return _Unit.apply(x)[0]


class _Unit(Differentiable):
    """:func:`normalize` with a third of its passes over memory."""

    @staticmethod
    def forward(x: Tensor) -> Any:
        wide = x.to(accumulation_dtype(x))
        norms = _lengths(wide, 1, 1e-12)
        return (wide / norms).to(x.dtype), norms

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*output, *inputs)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def gradients(ctx: Any, saved: Any, grad: Any, _: Any) -> Any:
        z, norms, x = saved
        grad, z = grad.to(norms.dtype), z.to(norms.dtype)
        with full_precision(z):  # torch.compile's backward may run under autocast
            along = torch.linalg.vecdot(grad, z)[:, None]
        return (torch.addcmul(grad, z, along, value=-1).div_(norms).to(x.dtype),)
