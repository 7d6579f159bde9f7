"""Triton for column-wise steps, torch's matrix products in between, and one fused product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._operator import unit_of
from .._tile_table import PRODUCTS, architecture, ceil, multiprocessors
from .._tiles import product as multiply
from .._triton import operand, precision, tensor_cores
from .columns import Columns
from .kernels import SquareSum
from .triton_kernels import (
    deviations_kernel,
    dot_kernel,
    gradient_kernel,
    input_gradient_kernel,
    restore_kernel,
    square_sum_kernel,
    standardize_kernel,
)

BLOCK = {"ROWS": 8, "COLUMNS": 128, "num_warps": 4}
FEWEST_FOR_TRIANGLE = 4096  # columns; with fewer, half of the tiles do not fill the device


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each column, (d,) in float64."""
    n, d = x.shape
    origin = x.new_zeros(d, dtype=torch.float32)
    center = (_deviations(x, origin)[0] / n).float()
    total, squares = _deviations(x, center)
    return center + total / n, squares - total.square() / n


def dot(a: Columns, b: Columns) -> Tensor:
    """Dot product of each column of â with that of b̂, (d,) in float64."""
    pointers = (*_operand(a), *_operand(b))
    return _sum_rows(dot_kernel, a.x, 1, *pointers, RAW=a.mean is None)[0]


def gram(a: Columns) -> Tensor:
    """â âᵀ, (n, n)."""
    values = _values(a)
    return _product(values, values.T)


def cross(a: Columns, b: Columns | None, rows: slice) -> Tensor:
    """Some rows of âᵀ b̂, (rows, d); b is a if None."""
    values = _values(b or a)
    part = values[:, rows] if b is None else _values(a.part(rows))
    return _product(part.T, values)


def left(weights: Tensor, a: Columns) -> Tensor:
    """weights · â, for weights (n, n) with a large diagonal, which is not rounded."""
    values = _values(a)
    if not tensor_cores(values):
        return _product(weights, values)
    diagonal = weights.diagonal().contiguous()
    weights, unit = _lowered(weights.clone().fill_diagonal_(0.0), values.dtype)
    product = _product(weights, values)
    _each_tile(restore_kernel, product, product, unit, diagonal, *_operand(a), RAW=a.mean is None)
    return product


def right(a: Columns, weights: Tensor, out: Tensor, accumulate: bool) -> None:
    """out (+)= â · weights, for weights (d, m) and out (n, m)."""
    values = _values(a)
    weights, unit = _lowered(weights, values.dtype)
    if out.is_contiguous() and not accumulate:
        product = multiply(values, weights, out)
    else:
        product = _product(values, weights)
    if values.dtype == torch.float16:
        product.div_(unit)
    if accumulate:
        out.add_(product)
    elif product is not out:
        out.copy_(product)


def finish(
    product: Tensor,
    own: Columns,
    other: Columns,
    weight: Tensor,
    factor: Tensor,
    count: float,
    total: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The gradient of own.x, in its dtype; overwrites ``product``. See tiled.py."""
    if not product.is_contiguous():
        return product.copy_(finish(product.contiguous(), own, other, weight, factor, count, total))
    slope = own.slope
    out = product if own.x.dtype == product.dtype else torch.empty_like(product, dtype=own.x.dtype)
    pointers = (product, *_operand(own), *_operand(other), weight.contiguous(), factor)
    sums = _sum_rows(
        gradient_kernel, own.x, 2, *pointers, out if slope is None else product, RAW=slope is None
    )
    if slope is None:
        return out
    if total is not None:
        sums = total(sums)
    shift, pull = (sums[0] / count).float(), (sums[1] * slope).float()
    _each_tile(input_gradient_kernel, product, product, *_operand(own), shift, pull, out)
    return out


def fused_square_sum(x: Tensor) -> SquareSum | None:
    """``square_sum`` on tensor cores; otherwise torch's matrix products are faster."""
    return square_sum if tensor_cores(x) else None


def square_sum(a: Columns, b: Columns | None) -> Tensor:
    """Σ_{i≠j} (âᵀ b̂)²_ij in float64, without storing the product; b is a if None."""
    values = operand(_values(a))
    others = values if b is None else operand(_values(b))
    n, d = values.shape
    tile = PRODUCTS[architecture(values.device)][values.element_size()]
    blocks = ceil(d, tile.BM)
    triangle = b is None and d >= FEWEST_FOR_TRIANGLE
    programs = blocks * (blocks + 1) // 2 if triangle else blocks * blocks
    partials = values.new_empty(programs, dtype=torch.float32)
    square_sum_kernel[(programs,)](
        values, others, partials, n, d, blocks, values.stride(0), others.stride(0),
        TRIANGLE=triangle, PRECISION=precision(values), **tile.arguments(),
    )  # fmt: skip
    return partials.sum(dtype=torch.float64)


def _deviations(x: Tensor, center: Tensor) -> Tensor:
    """Sums of x - center and of its squares, (2, d)."""
    return _sum_rows(deviations_kernel, x, 2, x, center, *x.stride())


def _sum_rows(kernel: Any, x: Tensor, count: int, *arguments: Any, **constants: bool) -> Tensor:
    """``count`` sums over the rows of x, (count, d): by splits, then added in a fixed order."""
    n, d = x.shape
    splits, rows = _splits(x)
    sums = x.new_empty(count, splits, d, dtype=torch.float64)
    kernel[(ceil(d, BLOCK["COLUMNS"]), splits)](*arguments, sums, n, d, rows, **constants, **BLOCK)
    return sums.sum(1)


def _splits(x: Tensor) -> tuple[int, int]:
    """The number of splits of the rows that fill the device, and the rows of each."""
    n, d = x.shape
    blocks = max(1, ceil(d, BLOCK["COLUMNS"]))  # a rank may have no columns
    wanted = ceil(2 * multiprocessors(x.device), blocks)
    rows = BLOCK["ROWS"] * ceil(ceil(n, BLOCK["ROWS"]), wanted)
    return ceil(n, rows), rows


def _each_tile(kernel: Any, x: Tensor, *arguments: Any, **constants: bool) -> None:
    n, d = x.shape
    kernel[(ceil(n, BLOCK["ROWS"]), ceil(d, BLOCK["COLUMNS"]))](
        *arguments, n, d, **constants, **BLOCK
    )


def _values(a: Columns) -> Tensor:
    """â in the dtype of a, for matrix products."""
    if a.mean is None:
        return a.x
    values = a.x.new_empty(a.x.shape)
    _each_tile(standardize_kernel, values, *_operand(a), values)
    return values


def _operand(a: Columns) -> tuple[Any, ...]:
    """Pointers and strides; the statistics of raw columns are not read."""
    statistics = (a.x, a.x, a.x) if a.mean is None else (a.mean, a.rest, a.scale)
    return (a.x, *statistics, *a.x.stride())


def _product(a: Tensor, b: Tensor) -> Tensor:
    return multiply(a, b, a.new_empty(0, dtype=torch.float32))


def _lowered(weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights in the dtype of operands, scaled by a power of two into float16's range."""
    if dtype != torch.float16:
        return weights.to(dtype), weights.new_ones(())
    unit = unit_of(weights.abs().amax())
    return (weights * unit).to(dtype), unit
