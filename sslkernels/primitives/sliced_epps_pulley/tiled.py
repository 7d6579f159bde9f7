"""The kernels in plain torch, some rows at a time: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..._operator import accumulation_dtype

PROJECTIONS = 1 << 18  # at a time, several of which are alive


def sums(z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
    dtype = accumulation_dtype(z)
    directions = directions.to(dtype)
    out = z.new_zeros(len(z), 2, knots, directions.shape[1], dtype=dtype)
    for view, rows in _parts(z, directions):
        p = z[view, rows].to(dtype) @ directions
        for k in range(knots):
            angles = p * ((k + 1) * step)
            out[view, 0, k] += angles.cos().sum(0)
            out[view, 1, k] += angles.sin().sum(0)
    return out


def statistics(
    sums: Tensor,
    step: float,
    weights: Sequence[float],
    count: int | Tensor,
    factor: int | Tensor,
) -> Tensor:
    # on the device of the sums, where nothing is copied to
    knots = torch.arange(1, len(weights) + 1, device=sums.device)
    t = (knots.double() * step)[:, None]
    weight = torch.stack([t.new_full((1,), x) for x in weights])
    sums.div_(count)
    sums[:, 0] -= torch.exp(-t.square() / 2).to(sums.dtype)
    square = sums[:, 0].square() + sums[:, 1].square()
    out = (square * weight.to(sums.dtype)).sum(1) * factor
    sums *= (2 * factor / count * weight * t).to(sums.dtype)
    return out


def gradient(
    z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
) -> Tensor:
    dtype = accumulation_dtype(z)
    directions = directions.to(dtype)
    out = z.new_empty(z.shape, dtype=dtype)
    for view, rows in _parts(z, directions):
        p = z[view, rows].to(dtype) @ directions
        of_cosine, of_sine = coefficients[view]
        dp = torch.zeros_like(p)
        for k in range(len(of_cosine)):
            angles = p * ((k + 1) * step)
            dp.addcmul_(angles.cos(), of_sine[k]).addcmul_(angles.sin(), of_cosine[k], value=-1)
        out[view, rows] = (dp * gradients[view]) @ directions.T
    return out


def _parts(z: Tensor, directions: Tensor) -> Iterator[tuple[int, slice]]:
    step = max(1, PROJECTIONS // directions.shape[1])
    for view in range(len(z)):
        for start in range(0, z.shape[1], step):
            yield view, slice(start, start + step)
