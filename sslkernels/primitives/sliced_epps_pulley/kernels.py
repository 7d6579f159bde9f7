"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Kernels(Protocol):
    """What a module of kernels holds, for samples z (V, N, D) and directions (D, M)."""

    def sums(self, z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
        """Over samples, of cos(t p) and sin(t p): (V, 2, knots, M)."""
        ...

    def statistics(
        self,
        sums: Tensor,
        step: float,
        weights: Sequence[float],
        count: int | Tensor,
        factor: int | Tensor,
    ) -> Tensor:
        """(V, M), from sums over ``count`` samples. The sums become coefficients in their place:
        2 · factor · weight · t / count times what mean cosines and sines are off their targets."""
        ...

    def gradient(
        self, z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
    ) -> Tensor:
        """(V, N, D), from coefficients and the gradients (V, M) of the statistics."""
        ...


def kernels(impl: str, knots: int) -> Kernels:
    """Those of an implementation, imported when they are first asked for; the tiled ones for more
    knots than it takes."""
    if impl == "cpu":
        from . import cpu

        if knots <= cpu.MOST_KNOTS:
            return cpu
    elif impl == "triton":
        from . import triton

        if knots <= triton.MOST_KNOTS:
            return triton
    elif impl != "tiled":
        raise ValueError(f"no kernels are called {impl!r}")
    from . import tiled

    return tiled
