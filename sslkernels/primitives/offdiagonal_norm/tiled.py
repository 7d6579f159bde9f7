"""The kernels in plain torch, some columns at a time: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..._operator import accumulation_dtype
from .columns import Columns

WIDTH = 2048  # columns at a time


def fused_square_sum(x: Tensor) -> None:
    """None: the product is computed in parts."""


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each column, (d,) in float64."""
    parts = [torch.var_mean(part.double(), 0, correction=0) for part in x.split(WIDTH, 1)]
    return torch.cat([mean for _, mean in parts]), torch.cat([var for var, _ in parts]) * len(x)


def dot(a: Columns, b: Columns) -> Tensor:
    """Dot product of each column of â with that of b̂, (d,) in float64."""
    return torch.cat(
        [(_values(a, part) * _values(b, part)).sum(0, dtype=torch.float64) for part in _parts(a)]
    )


def gram(a: Columns) -> Tensor:
    """â âᵀ, (n, n), with its diagonal summed in float64."""
    n = len(a.x)
    out = a.x.new_zeros(n, n, dtype=accumulation_dtype(a.x))
    squares = a.x.new_zeros(n, dtype=torch.float64)
    for part in _parts(a):
        values = _values(a, part)
        out.addmm_(values, values.T)
        squares += values.square().sum(1, dtype=torch.float64)
    out.diagonal().copy_(squares)
    return out


def cross(a: Columns, b: Columns | None, rows: slice) -> Tensor:
    """Some rows of âᵀ b̂, (rows, d); b is a if None."""
    b = b or a
    left = _values(a, rows).T
    out = left.new_empty(len(left), b.x.shape[1])
    for part in _parts(b):
        out[:, part] = left @ _values(b, part)
    return out


def left(weights: Tensor, a: Columns) -> Tensor:
    """weights · â, for weights (n, n); their large diagonal is multiplied separately."""
    diagonal, rest = weights.diagonal()[:, None], weights.clone().fill_diagonal_(0.0)
    out = weights.new_empty(a.x.shape)
    for part in _parts(a):
        values = _values(a, part)
        out[:, part] = (rest @ values).addcmul_(values, diagonal)
    return out


def right(a: Columns, weights: Tensor, out: Tensor, accumulate: bool) -> None:
    """out (+)= â · weights, for weights (d, m) and out (n, m)."""
    for part in _parts(a):
        torch.addmm(out, _values(a, part), weights[part], beta=float(accumulate), out=out)
        accumulate = True


def finish(
    product: Tensor,
    own: Columns,
    other: Columns,
    weight: Tensor,
    factor: Tensor,
    count: float,
    total: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The gradient of own.x, in place of ``product``.

    The gradient of its standardised columns is factor · product + weight · other; ``total`` sums
    over ranks, ``count`` is the number of rows of all ranks.
    """
    for part in _parts(own):
        gradient = product[:, part].mul_(factor).addcmul_(_values(other, part), weight[part])
        if own.scale is None or own.slope is None:
            continue
        values = _values(own, part)
        sums = torch.stack([gradient.sum(0), torch.linalg.vecdot(gradient, values, dim=0)])
        mean, along = sums if total is None else total(sums)
        gradient.sub_(mean / count).mul_(own.scale[part])
        gradient.addcmul_(values, along * own.slope[part])
    return product


def _parts(a: Columns) -> Iterator[slice]:
    d = a.x.shape[1]
    starts = range(0, max(d, 1), WIDTH)  # one empty part if a rank has no columns
    return (slice(start, min(start + WIDTH, d)) for start in starts)


def _values(a: Columns, part: slice) -> Tensor:
    x, mean, rest, scale, _ = a.part(part)
    x = x.to(accumulation_dtype(x))
    if mean is None or rest is None or scale is None:
        return x
    return (x - mean).sub_(rest).mul_(scale)
