"""The kernels in plain torch, some rows at a time: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..._operator import accumulation_dtype

PROJECTIONS = 1 << 18  # at a time, with several copies


def sums(z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
    dtype = accumulation_dtype(z)
    directions = directions.to(dtype)
    out = z.new_zeros(1, len(z), 2, knots, directions.shape[1], dtype=dtype)
    for view, rows in _parts(z, directions):
        p = z[view, rows].to(dtype) @ directions
        for k in range(knots):
            angles = p * ((k + 1) * step)
            out[0, view, 0, k] += angles.cos().sum(0)
            out[0, view, 1, k] += angles.sin().sum(0)
    return out


def statistics(
    sums: Tensor, step: float, weights: Sequence[float], count: int | Tensor
) -> tuple[Tensor, Tensor]:
    # created on the device of the sums, without a copy
    t = torch.arange(1, len(weights) + 1, device=sums.device).double()[:, None] * step
    weight = torch.stack([t.new_full((1,), x) for x in weights])
    errors = sums[0] / count
    errors[:, 0] -= torch.exp(-t.square() / 2).to(sums.dtype)
    square = errors[:, 0].square() + errors[:, 1].square()
    statistics = (square * weight.to(sums.dtype)).sum(1) * count
    return statistics, errors.mul_((2 * weight * t).to(sums.dtype))


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
