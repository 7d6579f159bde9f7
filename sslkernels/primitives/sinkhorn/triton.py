"""Triton kernels: partial results of rows and columns are added in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._tile_table import ceil, multiprocessors
from .._tiles import product as product
from .._triton import inverse, total, unit
from .sums import LogSum, combine
from .triton_kernels import center_kernel, columns_kernel, masses_kernel, rows_kernel

ROW = {"BLOCK": 4096, "num_warps": 4}
TILE = {"BM": 16, "BN": 256, "num_warps": 4}
CENTER = {"BLOCK": 512, "num_warps": 4}
PROGRAMS = 4  # per multiprocessor, to keep loads in flight


def columns(x: Tensor, epsilon: float | Tensor, count: Tensor | None) -> LogSum:
    """Log-sum-exp of logits / ε over the first ``count`` rows: (C, k) for x (C, N, k)."""
    return combine(LogSum(*_of_columns(columns_kernel, 2, x, epsilon, count)))


def rows(x: Tensor, center: Tensor, epsilon: float | Tensor, count: Tensor | None = None) -> LogSum:
    """Of (logits - center) / ε over these columns: (C, N); anything for rows that do not count."""
    return combine(LogSum(*_of_rows(x, center, epsilon, count)))


def masses(
    x: Tensor,
    center: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    sums: LogSum | None = None,
) -> Tensor:
    """Masses of these prototypes over the first ``count`` rows of the plan: (C, k).

    ``sums``: :func:`rows` over all columns; None if x has them all.
    """
    maxima, sizes = _of_rows(x, center, epsilon, count) if sums is None else (y[None] for y in sums)
    return total(_masses(x, center, epsilon, count, maxima, sizes))


def iterate(x: Tensor, epsilon: float | Tensor, iterations: int, count: Tensor | None) -> Tensor:
    """The centre of one process, (C, k)."""
    maxima, sums = _of_columns(columns_kernel, 2, x, epsilon, count)
    center = _moved(None, maxima, sums, epsilon)
    for _ in range(iterations - 1):
        of_rows = _of_rows(x, center[0], epsilon, count)
        sums = _masses(x, center[0], epsilon, count, *of_rows)
        center = _moved(center, None, sums, epsilon)
    return center[0]


def _moved(
    center: tuple[Tensor, Tensor] | None,
    maxima: Tensor | None,
    sums: Tensor,
    epsilon: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """The next centre, and the largest log-mass of each block; from the last ones."""
    splits, groups, k = sums.shape
    blocks = ceil(k, CENTER["BLOCK"])
    out = sums.new_empty((groups, k)), sums.new_empty((groups, blocks))
    on_device = epsilon if isinstance(epsilon, Tensor) else None
    center_kernel[(blocks, groups)](
        *(center or out),  # not read in the first iteration
        sums if maxima is None else maxima,
        sums,
        *out,
        on_device,
        k,
        splits,
        0.0 if on_device is not None else epsilon,
        FIRST=center is None,
        ON_DEVICE=on_device is not None,
        **CENTER,
    )
    return out


def _of_rows(x: Tensor, center: Tensor, epsilon: float | Tensor, count: Tensor | None) -> Tensor:
    """Maximum and sum, (2, splits of the columns, C, N)."""
    x = _readable(x)
    groups, n, k = x.shape
    blocks, splits = _split(x.device, groups * n, k, ROW["BLOCK"])
    out = x.new_empty((2, splits, groups, n), dtype=torch.float32)
    _launch(rows_kernel, (n, groups, splits), x, epsilon, count, [center, *out], [blocks], ROW)
    return out


def _masses(
    x: Tensor,
    center: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    maxima: Tensor,
    sums: Tensor,
) -> Tensor:
    """(splits of the rows, C, k), from the results of :func:`_of_rows`."""
    known = center, maxima, sums
    return _of_columns(masses_kernel, 1, x, epsilon, count, known, [len(maxima)])[0]


def _of_columns(
    kernel: Any,
    results: int,
    x: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    known: Sequence[Tensor] = (),
    numbers: Sequence[int] = (),
) -> Tensor:
    """(results, splits of the rows, C, k)."""
    x = _readable(x)
    groups, n, k = x.shape
    blocks = ceil(k, TILE["BN"])
    steps, splits = _split(x.device, groups * blocks, n, TILE["BM"])
    out = x.new_empty((results, splits, groups, k), dtype=torch.float32)
    grid = blocks, groups, splits
    _launch(kernel, grid, x, epsilon, count, [*known, *out], [steps, *numbers], TILE)
    return out


def _launch(
    kernel: Any,
    grid: tuple[int, int, int],
    x: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    pointers: Sequence[Tensor],
    steps: Sequence[int],
    constants: dict[str, int],
) -> None:
    on_device, *numbers = inverse(epsilon)
    kernel[grid](
        x,
        x if count is None else count,  # not read
        on_device,
        *pointers,
        *x.shape[1:],
        *steps,
        *x.stride()[:2],
        *numbers,
        COUNTED=count is not None,
        ON_DEVICE=on_device is not None,
        UNIT=unit(x.shape[2], *x.stride()[:2]),
        **constants,
    )


def _split(device: torch.device, programs: int, length: int, step: int) -> tuple[int, int]:
    """Steps per program, and programs per length, that fill the device."""
    splits = ceil(PROGRAMS * multiprocessors(device), programs)
    steps = ceil(ceil(length, step), splits)
    return steps, ceil(length, steps * step)


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()
