"""The implementations."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch import Tensor


class Kernels(Protocol):
    """The interface of an implementation."""

    def random_directions(
        self, step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype
    ) -> Tensor:
        """(slices, features), contiguous, of up to 32 bits: one direction per row."""
        ...


@cache
def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
    if impl == "reference":
        from . import reference

        return reference
    if impl == "cpu":
        from . import cpu

        return cpu
    if impl == "triton":
        from . import triton

        return triton
    raise ValueError(f"no kernels are called {impl!r}")
