"""The C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import extension, matrix


def sums(z: Tensor, directions: Tensor, step: float, knots: int) -> Tensor:
    out = z.new_empty(1, len(z), 2, knots, directions.shape[1], dtype=torch.float32)
    extension().sliced_sums(*_problem(z, directions), step, knots, _threads(), out.data_ptr())
    return out


def statistics(
    sums: Tensor, step: float, weights: Sequence[float], count: int | Tensor
) -> tuple[Tensor, Tensor]:
    _, views, _, _, slices = sums.shape
    out = sums.new_empty(views, slices)
    extension().sliced_statistics(
        views, slices, step, float(count), list(weights), _threads(), sums.data_ptr(),
        out.data_ptr(),
    )  # fmt: skip
    return out, sums[0]


def gradient(
    z: Tensor, directions: Tensor, step: float, coefficients: Tensor, gradients: Tensor
) -> Tensor:
    out = z.new_empty(z.shape, dtype=torch.float32)
    gradients = gradients.contiguous()
    extension().sliced_gradient(
        *_problem(z, directions), step, coefficients.shape[2], _threads(),
        coefficients.data_ptr(), gradients.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def _problem(z: Tensor, directions: Tensor) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    return [matrix(x) for x in z.unbind()], matrix(directions)


def _threads() -> int:
    return torch.get_num_threads()
