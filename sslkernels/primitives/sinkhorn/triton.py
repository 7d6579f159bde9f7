"""Triton kernels: what programs find of parts of rows and columns is added in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from .._tile_table import ceil, multiprocessors
from .._tiles import product as product
from .._triton import total, two_floats, unit
from .sums import LogSum, combine
from .triton_kernels import columns_kernel, masses_kernel, rows_kernel

ROW = {"BLOCK": 4096, "num_warps": 4}
TILE = {"BM": 16, "BN": 256, "num_warps": 4}
PROGRAMS = 4  # for each multiprocessor, which then always has something to load


def columns(x: Tensor, epsilon: float, count: Tensor | None) -> LogSum:
    """Of logits / ε over the first ``count`` rows: (C, k) of x (C, N, k)."""
    return combine(LogSum(*_of_columns(columns_kernel, 2, x, epsilon, count)))


def rows(x: Tensor, center: Tensor, epsilon: float, count: Tensor | None = None) -> LogSum:
    """Of (logits - center) / ε over these columns: (C, N); anything for rows that do not count."""
    x = _readable(x)
    groups, n, k = x.shape
    blocks, splits = _split(x.device, groups * n, k, ROW["BLOCK"])
    out = x.new_empty((2, splits, groups, n), dtype=torch.float32)
    _launch(rows_kernel, (n, groups, splits), x, epsilon, count, [center, *out], blocks, ROW)
    return combine(LogSum(*out))


def masses(
    x: Tensor, center: Tensor, epsilon: float, count: Tensor | None, sums: LogSum | None = None
) -> Tensor:
    """What the first ``count`` rows of the plan give to each of these prototypes: (C, k).

    ``sums``: :func:`rows` over all columns; None where x has them all.
    """
    x = _readable(x)
    sums = sums or rows(x, center, epsilon, count)
    return total(_of_columns(masses_kernel, 1, x, epsilon, count, center, *sums)[0])


def _of_columns(
    kernel: Any, results: int, x: Tensor, epsilon: float, count: Tensor | None, *known: Tensor
) -> Tensor:
    """(results, splits of the rows, C, k)."""
    x = _readable(x)
    groups, n, k = x.shape
    blocks = triton.cdiv(k, TILE["BN"])
    steps, splits = _split(x.device, groups * blocks, n, TILE["BM"])
    out = x.new_empty((results, splits, groups, k), dtype=torch.float32)
    grid = blocks, groups, splits
    _launch(kernel, grid, x, epsilon, count, [*known, *out], steps, TILE)
    return out


def _launch(
    kernel: Any,
    grid: tuple[int, int, int],
    x: Tensor,
    epsilon: float,
    count: Tensor | None,
    pointers: Sequence[Tensor],
    steps: int,
    constants: dict[str, int],
) -> None:
    kernel[grid](
        x,
        x if count is None else count,  # not read
        *pointers,
        *x.shape[1:],
        steps,
        *x.stride()[:2],
        *two_floats(1 / epsilon),
        COUNTED=count is not None,
        UNIT=unit(x.shape[2], *x.stride()[:2]),
        **constants,
    )


def _split(device: torch.device, programs: int, length: int, step: int) -> tuple[int, int]:
    """The steps that a program takes, and how many share the length, for the device to be full."""
    splits = ceil(PROGRAMS * multiprocessors(device), programs)
    steps = ceil(ceil(length, step), splits)
    return steps, ceil(length, steps * step)


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()
