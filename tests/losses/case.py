"""The form of a case: a loss and its formula, with the same signature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sslkernels.distributed import Gather


def numbers(like: Tensor, *shape: int, seed: int) -> Tensor:
    """Irregular float32 numbers with mean 0 and variance 1, the same at every call.

    They are computed on the device of ``like``, because a copy would synchronise.
    """
    count = torch.arange(math.prod(shape), dtype=torch.float64, device=like.device)
    return (2**0.5 * (count + 10_000 * seed).square().sin()).float().reshape(shape)


@dataclass(frozen=True)
class Case:
    """``embeddings`` of (N, D), the last ``constant`` without gradient; learnable scalars.

    With ``labels``, both functions take the rows' labels as a further argument.
    """

    ours: Callable[..., Tensor]
    formula: Callable[..., Tensor]
    embeddings: int = 2
    constant: int = 0
    scalars: tuple[float, ...] = (0.2,)
    labels: bool = False
    gathers: bool = True
    prepare: Callable[[Tensor], Tensor] = field(default=lambda x: x)

    def inputs(self, n: int, d: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Correlated views, then the scalars."""
        base = torch.randn(n, d, dtype=torch.float64)
        views = [
            self.prepare(base + 0.7 * torch.randn(n, d, dtype=torch.float64)).to(dtype)
            for _ in range(self.embeddings)
        ]
        return views + [torch.tensor(x).to(dtype) for x in self.scalars]

    def split(self, inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return inputs[: self.embeddings], inputs[self.embeddings :]

    def compute(
        self, inputs: list[Tensor], labels: Tensor | None = None, gather: Gather | None = None
    ) -> Tensor:
        return self.ours(*inputs, *([labels] if self.labels else []), gather=gather)

    def expect(self, inputs: list[Tensor], labels: Tensor | None = None) -> Tensor:
        return self.formula(*inputs, *([labels] if self.labels else []))
