"""The implementations."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from torch import Tensor


class Kernels(Protocol):
    """The interface of an implementation."""

    def sliced_wasserstein(
        self, z: Tensor, directions: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        """The value (), and if ``wanted`` the gradient of z (V, N, D), flattened."""
        ...


@cache
def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
    if impl == "tiled":
        from . import tiled

        return tiled
    if impl == "cpu":
        from . import cpu

        return cpu
    raise ValueError(f"no kernels are called {impl!r}")
