"""The implementations."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from torch import Tensor


class Kernels(Protocol):
    """What a module of kernels holds."""

    def sliced_wasserstein(
        self, z: Tensor, directions: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        """The value (), and the gradient by z (V, N, D) in one row of numbers, if it is wanted."""
        ...


@cache
def kernels(impl: str) -> Kernels:
    """Those of an implementation, imported when they are first asked for."""
    if impl == "tiled":
        from . import tiled

        return tiled
    if impl == "cpu":
        from . import cpu

        return cpu
    raise ValueError(f"no kernels are called {impl!r}")
