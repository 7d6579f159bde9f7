"""The implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from torch import Tensor

from .problem import Problem, Statistics


class Kernels(Protocol):
    """The interface of an implementation."""

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor, Tensor]: ...

    def reduce(self, problem: Problem) -> Statistics: ...

    def weigh(
        self, problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
    ) -> None: ...

    def product(self, a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> object: ...


@cache
def kernels(impl: str) -> Kernels:
    """The kernels of an implementation, imported on first use."""
    if impl == "tiled":
        from . import tiled

        return tiled
    if impl == "cpu":
        from . import cpu

        return cpu
    if impl == "triton":
        from . import triton

        return triton
    if impl == "cuda":
        from . import cuda

        return cuda
    raise ValueError(f"no kernels are called {impl!r}")
