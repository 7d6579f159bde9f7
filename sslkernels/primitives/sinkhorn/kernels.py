"""The implementations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from torch import Tensor

from .sums import LogSum


class Kernels(Protocol):
    """What a module of kernels holds."""

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
    if impl == "cuda":
        from . import cuda

        return cuda
    raise ValueError(f"no kernels are called {impl!r}")


@cache
def whole(impl: str) -> Callable[[Tensor, float | Tensor, int, Tensor | None], Tensor] | None:
    """All iterations of one process, (C, N, k) to (C, k), where an implementation has them in one
    piece."""
    if impl == "cpu":
        from .cpu import iterate

        return iterate
    if impl == "triton":
        from .triton import iterate as iterate_on_device

        return iterate_on_device
    return None
