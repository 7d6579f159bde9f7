"""Matrix products by tiles, the best of each kept: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The topk largest products of each row, (n, topk), and their columns, (n, topk)."""
    height, width = (2048, 8192) if q.is_cuda else (256, 8192)
    dtype = torch.promote_types(q.dtype, torch.float32)
    similarities = q.new_empty((q.shape[0], topk), dtype=dtype)
    indices = q.new_empty((q.shape[0], topk), dtype=torch.int64)
    buffer = q.new_empty(0, dtype=dtype)
    for i in range(0, q.shape[0], height):
        rows = slice(i, i + height)
        best = torch.full_like(similarities[rows], float("-inf"))
        columns = torch.full_like(indices[rows], -1)
        for j in range(0, k.shape[0], width):
            products = _product(q[rows], k[j : j + width].T, buffer)
            for offset in exclude:
                start = i - j + offset  # where it crosses the tile's first row
                if -products.shape[0] < start < products.shape[1]:
                    products.diagonal(start).fill_(float("-inf"))
            values, at = _candidates(products, topk)
            best, order = _sort(torch.cat([best, values], 1), topk)
            columns = torch.cat([columns, at + j], 1).gather(1, order)
        similarities[rows], indices[rows] = best, columns
    return similarities, indices.masked_fill_(torch.isneginf(similarities), -1)


def _candidates(products: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Entries and columns, from left to right, among which are the topk largest.

    These stand in the topk groups of columns with the largest maxima. For an entry elsewhere, each
    of those groups holds one that is larger, or as large and further left.
    """
    size = 1 << (products.shape[1] // topk).bit_length() // 2  # as many in groups as groups
    padding = -products.shape[1] % size
    if padding:
        products = F.pad(products, (0, padding), value=float("-inf"))
    maxima = products.unflatten(1, (-1, size)).amax(2)  # NaN where there is one
    groups = _sort(maxima, topk)[1].sort(1).values
    columns = torch.arange(size, device=products.device) + groups[:, :, None] * size
    return products.gather(1, columns.flatten(1)), columns.flatten(1)


def _sort(values: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The topk largest, NaN first, and their places; of equals the leftmost, unlike torch.topk."""
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :topk], order[:, :topk]


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    out.resize_(a.shape[0], b.shape[1])
    if a.is_cuda and a.dtype != out.dtype:  # tensor cores: half-precision operands, float32 sums
        return torch.mm(a, b, out_dtype=out.dtype, out=out)
    return torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)
