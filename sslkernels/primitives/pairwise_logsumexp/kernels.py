"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from torch import Tensor

from .tiled import Side


class Kernels(Protocol):
    """The interface of an implementation."""

    def forward(
        self, q: Tensor, k: Tensor | None, scale: Tensor, exclude: Sequence[int], columns: bool
    ) -> tuple[Tensor, Tensor]: ...

    def backward(
        self,
        q: Tensor,
        k: Tensor | None,
        scale: Tensor,
        exclude: Sequence[int],
        row: Side,
        column: Side | None,
        need_q: bool,
        need_k: bool,
    ) -> tuple[Tensor | None, Tensor | None]: ...


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
