"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from torch import Tensor

from .images import RaggedImages


class Kernels(Protocol):
    """The interface of an implementation."""

    def augment_views(
        self,
        images: RaggedImages,
        parameters: Tensor,
        interpolation: str,
        mean: Sequence[float],
        std: Sequence[float],
        out: Tensor,
    ) -> None: ...


@cache
def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
    if impl == "cpu":
        from . import cpu

        return cpu
    if impl == "triton":
        from . import triton

        return triton
    raise ValueError(f"no kernels are called {impl!r}")
