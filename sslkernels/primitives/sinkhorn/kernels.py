"""The implementations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from torch import Tensor

from .sums import LogSum


class Kernels(Protocol):
    """The interface of an implementation."""

    def columns(self, x: Tensor, epsilon: float | Tensor, count: Tensor | None) -> LogSum: ...

    def rows(self, x: Tensor, center: Tensor, epsilon: float | Tensor) -> LogSum: ...

    def masses(
        self,
        x: Tensor,
        center: Tensor,
        epsilon: float | Tensor,
        count: Tensor | None,
        sums: LogSum | None = None,
    ) -> Tensor: ...

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> object: ...


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
    if impl == "cuda":
        from . import cuda

        return cuda
    raise ValueError(f"no kernels are called {impl!r}")


@cache
def whole(impl: str) -> Callable[[Tensor, float | Tensor, int, Tensor | None], Tensor] | None:
    """All iterations of one process, (C, N, k) to (C, k), if an implementation has them as one
    function."""
    if impl == "cpu":
        from .cpu import iterate

        return iterate
    if impl == "triton":
        from .triton import iterate as iterate_on_device

        return iterate_on_device
    return None
