"""The definition, in plain torch. With float64 inputs it is the oracle of every test."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Materialise q kᵀ and sort its rows. Computes in ``promote_types(dtype, float32)``."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    products = q.to(dtype) @ k.to(dtype).T  # (n, m)
    i = torch.arange(q.shape[0], device=q.device)[:, None]
    j = torch.arange(k.shape[0], device=q.device)[None, :]
    for offset in exclude:
        products.masked_fill_(j - i == offset, float("-inf"))
    similarities, indices = products.sort(dim=1, descending=True, stable=True)  # NaN first
    similarities, indices = similarities[:, :topk].contiguous(), indices[:, :topk].contiguous()
    return similarities, indices.masked_fill_(torch.isneginf(similarities), -1)
