"""Triton: two launches for the statistics, one for the gradient of embeddings up to 256 wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._tile_table import (
    SLICE_GRADIENT,
    SLICES,
    ceil,
    in_pieces,
    is_deep,
    lookup,
    multiprocessors,
    parts,
)
from .._triton import UNIT, operand, precision, tensor_cores, two_floats
from .kernels import WIDTH
from .triton_kernels import gradient_kernel, statistics_kernel, sums_kernel, weights_kernel

GROUP = 16  # knots per program
MOST_SAMPLES = 4096  # per program, for sums in float32
WORKSPACE = 64 << 20  # bytes of weights of directions at a time
BLOCK = 128


def sums(z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
    samples, slices = _samples(z), operand(directions.T)
    views, n, _ = z.shape
    m, tile = len(slices), in_pieces(SLICES, slices)
    groups = ceil(knots, GROUP)
    blocks = ceil(m, tile.BM)
    splits = parts(blocks * views * groups, multiprocessors(z.device))
    rows = tile.BN * ceil(ceil(n, tile.BN), max(splits, ceil(n, MOST_SAMPLES)))
    splits = ceil(n, rows)
    out = z.new_empty((splits, views, 2, knots, m), dtype=torch.float32)
    sums_kernel[(blocks, splits, views * groups)](
        slices,
        samples,
        out,
        n,
        m,
        groups,
        rows,
        *_angle(step),
        slices.stride(0),
        samples.stride(1),
        samples.stride(0),
        D=slices.shape[1],
        KNOTS=knots,
        GROUP=min(GROUP, knots),
        PRECISION=_precision(z),
        **tile.arguments(),
    )
    return out


def statistics(
    sums: Tensor, step: float, weights: Sequence[float], count: int | Tensor
) -> tuple[Tensor, Tensor]:
    splits, views, _, knots, m = sums.shape
    width = WIDTH * ceil(m, WIDTH)
    out = sums.new_empty((views, m))
    coefficients = sums.new_empty((views, knots, width, 2))
    counted = isinstance(count, Tensor)
    statistics_kernel[(ceil(width, BLOCK), views)](
        sums,
        count if counted else None,
        out,
        coefficients,
        m,
        width,
        views,
        splits,
        0.0 if counted else float(count),
        step,
        WEIGHTS=tuple(weights),
        COUNTED=counted,
        BLOCK=BLOCK,
        num_warps=4,
    )
    return out, coefficients


def gradient(
    z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
) -> Tensor:
    samples, slices = _samples(z), operand(directions.T)
    views, n, d = z.shape
    m = len(slices)
    out = torch.empty_like(z, memory_format=torch.contiguous_format)
    strides = (
        samples.stride(1), slices.stride(0), 2 * coefficients.shape[2], samples.stride(0),
        *gradients.stride(),
    )  # fmt: skip
    constants: dict[str, Any] = {
        "D": slices.shape[1], "KNOTS": coefficients.shape[1], "PRECISION": _precision(z),
    }  # fmt: skip
    if tensor_cores(z) and not is_deep(SLICE_GRADIENT, slices):
        tile = lookup(SLICE_GRADIENT, slices)
        gradient_kernel[(ceil(n, tile.BM), views)](
            samples, slices, coefficients, gradients, out, n, m, *_angle(step), *strides, WIDTH=d,
            **constants, **tile.arguments(),
        )  # fmt: skip
        return out
    # the weights of all directions for the samples of some sets, then a library product
    tile = in_pieces(SLICES, slices)
    chunk = max(1, WORKSPACE // (n * m * z.element_size()))
    for start in range(0, views, chunk):
        own = slice(start, start + chunk)
        count = len(out[own])
        weights, units = z.new_empty((count, n, m)), z.new_empty((count, 1, 1), dtype=torch.float32)
        weights_kernel[(ceil(n, tile.BM), ceil(m, tile.BN), count)](
            samples[own], slices, coefficients[own], gradients[own], weights, units, n, m,
            *_angle(step), *strides, **constants, **tile.arguments(),
        )  # fmt: skip
        torch.matmul(weights, directions.T, out=out[own])
        out[own].mul_(units)
    return out


def _angle(step: float) -> tuple[float, float, float, float]:
    """Arguments of cosine_and_sine: the step in two floats, in quarter turns, and a bound."""
    return *two_floats(step), 2 * step / math.pi, 1e5 / step


def _samples(z: Tensor) -> Tensor:
    """z in the form that the kernels read: see :func:`operand`."""
    starts = (z.data_ptr(), z.stride(0), z.stride(1), z.shape[2])
    if precision(z) != "tf32" and z.stride(2) == 1 and not any(x % UNIT for x in starts):
        return z
    return operand(z.reshape(-1, z.shape[2])).view(*z.shape[:2], -1)


def _precision(z: Tensor) -> str:
    """Float32 in three products if TF32 is not allowed, as accurate as the kernel's sums."""
    found = precision(z)
    return "tf32x3" if z.dtype == torch.float32 and found == "ieee" else found
