"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

MOST_KNOTS = 64  # in C++ and Triton
WIDTH = 64  # Triton pads coefficients to a multiple of this in directions


class Kernels(Protocol):
    """The interface of an implementation, for samples z (V, N, D) and directions (D, M)."""

    def sums(self, z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
        """Sums over samples of cos(t p) and sin(t p): (splits, V, 2, knots, M), yet to be added."""
        ...

    def statistics(
        self, sums: Tensor, step: float, weights: Sequence[float], count: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Statistics (V, M) from sums over ``count`` samples, and the coefficients of the
        derivative: 2 · weight · t times the deviations of mean cosines and sines from targets."""
        ...

    def gradient(
        self, z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
    ) -> Tensor:
        """(V, N, D), from the coefficients and the gradients (V, M) of the statistics."""
        ...


def coefficients_shape(impl: str, views: Any, knots: Any, slices: Any) -> tuple[Any, ...]:
    """Their shape in an implementation: cosines, then sines; in Triton side by side, sines first,
    padded to whole tiles."""
    if impl == "triton":
        return views, knots, (slices + WIDTH - 1) // WIDTH * WIDTH, 2
    return views, 2, knots, slices


def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
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
