"""The implementations."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch import Tensor


class Kernels(Protocol):
    """What a module of kernels holds."""

    def random_directions(
        self, step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype
    ) -> Tensor:
        """(slices, features), contiguous, of up to 32 bits: a direction in each row."""
        ...


@cache
def kernels(impl: str) -> Kernels:
    """Those of an implementation, imported when they are first asked for."""
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
