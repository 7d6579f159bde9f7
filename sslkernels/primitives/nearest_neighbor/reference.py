"""The definition, in plain torch. With float64 inputs it is the oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._operator import accumulation_dtype
from .._tiles import fill_diagonals


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Materialise q kᵀ and sort its rows. Computes in ``promote_types(dtype, float32)``."""
    dtype = accumulation_dtype(q)
    products = fill_diagonals(q.to(dtype) @ k.to(dtype).T, exclude, float("-inf"))  # (n, m)
    similarities, indices = products.sort(dim=1, descending=True, stable=True)  # NaN first
    similarities, indices = similarities[:, :topk].contiguous(), indices[:, :topk].contiguous()
    return similarities, indices.masked_fill_(torch.isneginf(similarities), -1)
