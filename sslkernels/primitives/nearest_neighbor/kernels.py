"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from torch import Tensor


class Kernels(Protocol):
    """The interface of an implementation."""

    def forward(
        self, q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]
    ) -> tuple[Tensor, Tensor]: ...


@cache
def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
    if impl == "reference":
        from . import reference

        return reference
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
