"""Matrix products by tiles, keeping the best of each: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._operator import accumulation_dtype
from .._tiles import fill_diagonals, tiles


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The topk largest products of each row, (n, topk), and their columns, (n, topk)."""
    shape, sizes = (q.shape[0], topk), (2048 if q.is_cuda else 256, 8192)
    similarities = q.new_full(shape, float("-inf"), dtype=accumulation_dtype(q))
    indices = q.new_full(shape, -1, dtype=torch.int64)
    for rows, columns, products, diagonals in tiles(q, k, exclude, sizes=sizes):
        fill_diagonals(products, diagonals, float("-inf"))
        values, at = _candidates(products, topk)
        best, order = _sort(torch.cat([similarities[rows], values], 1), topk)
        similarities[rows] = best
        indices[rows] = torch.cat([indices[rows], at + columns.start], 1).gather(1, order)
    return similarities, indices.masked_fill_(torch.isneginf(similarities), -1)


def _candidates(products: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Entries and columns, from left to right, that include the topk largest.

    These are in the topk groups of columns with the largest maxima: for an entry elsewhere, each of
    those groups contains one that is larger, or equal and further left.
    """
    size = 1 << (products.shape[1] // topk).bit_length() // 2  # as many in groups as groups
    padding = -products.shape[1] % size
    if padding:
        products = F.pad(products, (0, padding), value=float("-inf"))
    maxima = products.unflatten(1, (-1, size)).amax(2)  # NaN if there is one
    groups = _sort(maxima, topk)[1].sort(1).values
    columns = torch.arange(size, device=products.device) + groups[:, :, None] * size
    return products.gather(1, columns.flatten(1)), columns.flatten(1)


def _sort(values: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The topk largest, NaN first, and their positions; ties from the left, unlike torch.topk."""
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :topk], order[:, :topk]
