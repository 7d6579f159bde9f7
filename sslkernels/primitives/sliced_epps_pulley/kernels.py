"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

MOST_KNOTS = 64  # that C++ and Triton take
WIDTH = 64  # of which Triton's coefficients of directions are a multiple


class Kernels(Protocol):
    """What a module of kernels holds, for samples z (V, N, D) and directions (D, M)."""

    def sums(self, z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
        """Over samples, of cos(t p) and sin(t p): (splits, V, 2, knots, M), to be added up."""
        ...

    def statistics(
        self, sums: Tensor, step: float, weights: Sequence[float], count: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """(V, M), from sums over ``count`` samples, and the coefficients of the derivative: 2 ·
        weight · t times what mean cosines and sines are off their targets."""
        ...

    def gradient(
        self, z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
    ) -> Tensor:
        """(V, N, D), from coefficients and the gradients (V, M) of the statistics."""
        ...


def coefficients_shape(impl: str, views: Any, knots: Any, slices: Any) -> tuple[Any, ...]:
    """That of an implementation: cosines' then sines'; Triton has them side by side, sines' first,
    and room for whole tiles."""
    if impl == "triton":
        return views, knots, (slices + WIDTH - 1) // WIDTH * WIDTH, 2
    return views, 2, knots, slices


def kernels(impl: str) -> Kernels:
    """Those of an implementation, imported when they are first asked for."""
    if impl == "tiled":
        from . import tiled

        return tiled
    if impl == "cpu":
        from . import cpu

        return cpu
    if impl == "triton":
        from . import triton

        return triton
    raise ValueError(f"no kernels are called {impl!r}")
