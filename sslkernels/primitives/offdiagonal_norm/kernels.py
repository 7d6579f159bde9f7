"""The implementations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from torch import Tensor

from .columns import Columns

# Σ_{i≠j} (âᵀ b̂)²_ij without storing any part of the product; b is a if None.
SquareSum = Callable[[Columns, Columns | None], Tensor]


class Kernels(Protocol):
    """The interface of an implementation."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def dot(self, a: Columns, b: Columns) -> Tensor: ...

    def gram(self, a: Columns) -> Tensor: ...

    def cross(self, a: Columns, b: Columns | None, rows: slice) -> Tensor: ...

    def left(self, weights: Tensor, a: Columns) -> Tensor: ...

    def right(self, a: Columns, weights: Tensor, out: Tensor, accumulate: bool) -> None: ...

    def finish(
        self,
        product: Tensor,
        own: Columns,
        other: Columns,
        weight: Tensor,
        factor: Tensor,
        count: float,
        total: Callable[[Tensor], Tensor] | None,
    ) -> Tensor: ...

    def fused_square_sum(self, x: Tensor) -> SquareSum | None: ...


@cache
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
