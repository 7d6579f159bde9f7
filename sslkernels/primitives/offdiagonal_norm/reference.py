"""The definition, in plain torch: the d × d product is stored."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from .columns import Standardized


def offdiagonal_norm_reference(
    a: Tensor, b: Tensor | None, kind: str, numbers: list[float]
) -> tuple[Tensor, Tensor]:
    with full_precision(a):
        a, b = (_values(x, kind, numbers) for x in (a, a if b is None else b))
        product = a.T @ b
        diagonal = product.diagonal()
        return (product - torch.diag(diagonal)).square().sum(), diagonal.clone()


def _values(x: Tensor, kind: str, numbers: list[float]) -> Tensor:
    if kind == "standardized":
        return Standardized(numbers[0], int(numbers[1]), numbers[2])(x)
    x = x.to(accumulation_dtype(x))
    return x if kind == "raw" else x - x.mean(0)
