"""A measured operation: its inputs, its exact result, and its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Work(Protocol):
    """FLOPs of matrix products, exponentials and bytes, each as {"fwd": …, "bwd": …}."""

    def flops(self, device: str) -> dict[str, int]: ...

    def exps(self, device: str) -> dict[str, int]: ...

    def bytes(self, dtype: torch.dtype) -> dict[str, int]: ...

    def entries(self) -> int:
        """The size of the matrix that eager code stores."""

    def describe(self, device: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One operation. A shape begins with (N, D), the last dimensions of the first input.

    ``make_inputs(shape, dtype, device, temperature)`` sets ``requires_grad`` on the inputs that get
    a gradient.
    """

    shape_meaning: str
    shapes: dict[str, tuple[Shape, ...]]  # by device, and "quick"
    make_inputs: Callable[[Shape, torch.dtype, str, float], list[Tensor]]
    work: Callable[[Shape], Work]
    has_temperature: bool = True
    more_sizes: int = 0  # number of sizes after (N, D) in a shape

    def oracle(self, inputs: list[Tensor], temperature: float) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients in float64, from the definition."""
        inputs = [
            x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x
            for x in inputs
        ]
        loss = self.backward(inputs, temperature)
        return loss, [x.grad for x in leaves(inputs)]

    @abstractmethod
    def backward(self, inputs: list[Tensor], temperature: float) -> Tensor:
        """Run a backward pass from the loss, and return it."""


@dataclass(frozen=True, kw_only=True)
class WholeCase(Case):
    """``loss(*inputs)`` is the definition."""

    loss: Callable[..., Tensor]
    has_temperature: bool = False

    def backward(self, inputs: list[Tensor], temperature: float) -> Tensor:
        value = self.loss(*inputs)
        value.backward()
        return value.detach()


def leaves(inputs: list[Tensor]) -> list[Tensor]:
    """The inputs that get a gradient."""
    return [x for x in inputs if x.requires_grad]


def grid(sizes: tuple[int, ...], *features: int) -> tuple[Shape, ...]:
    return tuple((n, d) for d in features for n in sizes)


def two_views(
    shape: Shape, dtype: torch.dtype, device: str, temperature: float = 1.0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    out0 = torch.randn(shape, generator=generator)
    out1 = out0 + torch.randn(shape, generator=generator)
    return [x.to(device, dtype).requires_grad_() for x in (out0, out1)]
