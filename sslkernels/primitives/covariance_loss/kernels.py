"""The implementations that make all of a loss at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from . import cpu
from .problem import CovarianceLoss


class Kernels(Protocol):
    """What a module of kernels holds."""

    def takes(self, p: CovarianceLoss) -> bool:
        """Whether they compute this problem."""
        ...

    def covariance_loss(self, p: CovarianceLoss, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """The loss, () float32, and derivatives in one float32 tensor: those wanted by a and b."""
        ...


def fused_kernels(impl: str) -> Kernels:
    """Those of an implementation; of Triton, imported when they are first asked for."""
    if impl == "cpu":
        return cpu
    if impl == "triton":
        from . import triton

        return triton
    raise ValueError(f"no kernels are called {impl!r}")
