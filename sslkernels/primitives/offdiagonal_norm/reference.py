"""The definition, in plain torch: the d × d product is stored."""

from __future__ import annotations

import torch
from torch import Tensor

from .._operator import accumulation_dtype


def offdiagonal_norm_reference(
    a: Tensor, b: Tensor | None, kind: str, numbers: list[float]
) -> tuple[Tensor, Tensor]:
    with torch.autocast(a.device.type, enabled=False):
        a, b = (_values(x, kind, numbers) for x in (a, a if b is None else b))
        product = a.T @ b
        diagonal = product.diagonal()
        return (product - torch.diag(diagonal)).square().sum(), diagonal.clone()


def _values(x: Tensor, kind: str, numbers: list[float]) -> Tensor:
    x = x.to(accumulation_dtype(x))
    if kind != "raw":
        x = x - x.mean(0)
    if kind == "standardized":
        eps, correction, outer_eps = numbers
        variance = x.square().sum(0) / max(len(x) - correction, 1.0)
        x = x / ((variance + eps).sqrt() + outer_eps)
    return x
