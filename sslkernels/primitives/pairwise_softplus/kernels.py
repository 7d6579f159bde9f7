"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from torch import Tensor


class Kernels(Protocol):
    """What a module of kernels holds."""

    def forward(
        self, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]
    ) -> Tensor: ...

    def backward(
        self,
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        bias: Tensor,
        exclude: Sequence[int],
        row_grad: Tensor,
        need_q: bool,
        need_k: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor]: ...


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
    raise ValueError(f"no kernels are called {impl!r}")
