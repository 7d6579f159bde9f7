"""The implementations that compute a whole loss at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from . import cpu
from .problem import Contrastive


class Kernels(Protocol):
    """The interface of an implementation."""

    def takes(self, p: Contrastive) -> bool:
        """Whether they support this problem."""
        ...

    def contrastive(self, p: Contrastive, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """The loss, () float32, and in one float32 tensor, concatenated, the wanted derivatives in
        query, other, key, positive, scale and bias."""
        ...


def fused_kernels(impl: str) -> Kernels:
    """The kernels of an implementation; Triton's are imported on first use."""
    if impl == "cpu":
        return cpu
    if impl == "triton":
        from . import triton

        return triton
    raise ValueError(f"no kernels are called {impl!r}")
