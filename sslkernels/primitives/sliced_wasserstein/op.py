"""The value with its gradient as one operator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..._operator import fused_loss, plain
from .kernels import kernels


def sliced_wasserstein(
    z: Tensor, directions: Tensor, wanted: Sequence[bool], impl: str
) -> tuple[Tensor, Tensor]:
    with plain(z):
        return kernels(impl).sliced_wasserstein(z, directions, wanted[0])


fused = fused_loss(sliced_wasserstein, tensors=1)
