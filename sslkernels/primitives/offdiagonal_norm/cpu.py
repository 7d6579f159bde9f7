"""The C++ kernels: columns are standardised on their way into the cache, and never stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .columns import Columns

Operand = tuple[tuple[int, ...], int, int, int, bool]  # sslkernels::cpu::Columns


def fused_square_sum(x: Tensor) -> None:
    """None: the product is computed in parts."""


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each column, (d,) in float64."""
    mean, squares = x.new_empty(2, x.shape[1], dtype=torch.float64)
    extension().column_statistics(
        matrix(x), torch.get_num_threads(), address(mean), address(squares)
    )
    return mean, squares


def dot(a: Columns, b: Columns) -> Tensor:
    """Dot product of each column of â with that of b̂, (d,) in float64."""
    out = a.x.new_empty(a.x.shape[1], dtype=torch.float64)
    extension().column_dot(_columns(a), _columns(b), torch.get_num_threads(), address(out))
    return out


def gram(a: Columns) -> Tensor:
    """â âᵀ, (n, n), with its diagonal summed in float64."""
    out = _product(_columns(a), _transposed(a), symmetric=True)
    squares = a.x.new_empty(len(a.x), dtype=torch.float64)
    extension().row_squares(_columns(a), torch.get_num_threads(), address(squares))
    out.diagonal().copy_(squares)
    return out


def cross(a: Columns, b: Columns | None, rows: slice) -> Tensor:
    """Some rows of âᵀ b̂, (rows, d); b is a if None."""
    part = a.part(rows)
    return _product(_transposed(part), _columns(b or a), b is None and part.x.shape == a.x.shape)


def left(weights: Tensor, a: Columns) -> Tensor:
    """weights · â, for weights (n, n); their large diagonal is multiplied separately."""
    out = torch.empty(a.x.shape, device="cpu")
    diagonal, rest = weights.diagonal().contiguous(), weights.clone().fill_diagonal_(0.0)
    extension().scale_rows(_columns(a), address(diagonal), torch.get_num_threads(), address(out))
    _multiply(_columns(Columns(rest)), _columns(a), False, out, True)
    return out


def right(a: Columns, weights: Tensor, out: Tensor, accumulate: bool) -> None:
    """out (+)= â · weights, for weights (d, m) and out (n, m)."""
    _multiply(_columns(a), _columns(Columns(weights)), False, out, accumulate)


def finish(
    product: Tensor,
    own: Columns,
    other: Columns,
    weight: Tensor,
    factor: Tensor,
    count: float,
    total: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The gradient of own.x, in place of ``product``: see tiled.py."""
    weight = weight.contiguous()
    sums = own.x.new_empty(2, own.x.shape[1], dtype=torch.float64)

    def run(compute: bool, apply: bool) -> None:
        extension().finish_columns(
            _columns(own), _columns(other), address(product), product.stride(0), address(weight),
            address(own.slope), factor.item(), count, address(sums), compute, apply,
            torch.get_num_threads(),
        )  # fmt: skip

    if own.mean is None:
        run(True, False)
    elif total is None:
        run(True, True)
    else:
        run(True, False)
        sums = total(sums)
        run(False, True)
    return product


def _product(x: Operand, y: Operand, symmetric: bool = False) -> Tensor:
    out = torch.empty(x[0][2], y[0][3], device="cpu")
    _multiply(x, y, symmetric, out, False)
    return out


def _multiply(x: Operand, y: Operand, symmetric: bool, out: Tensor, accumulate: bool) -> None:
    extension().standardized_product(
        x, y, symmetric, torch.get_num_threads(), address(out), out.stride(0), accumulate
    )


def _columns(a: Columns) -> Operand:
    return matrix(a.x), address(a.mean), address(a.rest), address(a.scale), False


def _transposed(a: Columns) -> Operand:
    return matrix(a.x.T), address(a.mean), address(a.rest), address(a.scale), True
