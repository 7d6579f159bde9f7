"""What is done to every row of a matrix."""

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
    """Whether a row (…, D) is, in one pass."""
    return torch.linalg.vector_norm(x, float("inf"), dim=-1) < float("inf")


def finite_sum(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, int | Tensor]:
    """The sum (D,) of the finite rows of x (N, D), and how many these are.

    On a GPU that of all rows: to look for others would be more launches than a loss has.
    """
    total = x.sum(0, dtype=dtype)
    if x.is_cuda or (not torch.compiler.is_compiling() and bool(total.isfinite().all())):
        return total, x.shape[0]
    finite = is_finite(x)
    return x.where(finite[:, None], 0.0).sum(0, dtype=dtype), finite.sum()


def _lengths(x: Tensor, dim: int, least: float) -> Tensor:
    """Of vectors along ``dim``, which stays; infinite up to ``least``: divided by it they are 0."""
    norms = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return F.threshold(norms, least, float("inf"))


def normalize(x: Tensor, dim: int = -1, least: float = 1e-12) -> Tensor:
    """:func:`unit` along any dimension, by operations that torch differentiates any number of
    times."""
    return x / _lengths(x, dim, least)


def unit(x: Tensor) -> Tensor:
    """Rows of length one, in x's dtype; a row without length is zero, and so is its gradient."""
    return _Unit.apply(x)[0]


class _Unit(Differentiable):
    """:func:`normalize` in a third of its passes."""

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
        with full_precision(z):  # torch.compile's backward may be in one
            along = torch.linalg.vecdot(grad, z)[:, None]
        return (torch.addcmul(grad, z, along, value=-1).div_(norms).to(x.dtype),)
