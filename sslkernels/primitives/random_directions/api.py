"""The public function: its contract and its checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import FLOATS, MOST_SEED, check_choice, check_dense, check_integers, shown
from .op import IMPLEMENTATIONS, random_directions_op


def random_directions(
    step: Tensor,
    features: int,
    slices: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    impl: str = "auto",
) -> Tensor:
    r"""Random unit vectors, the columns of a matrix, identical on every rank and every device.

    Each number is a function of its index, ``step`` and ``seed`` alone (Philox4x32-10, then the
    Box–Muller transform), so ranks at the same step need not communicate. Implementations agree on
    all random bits; logarithms, roots and sines differ in the last digits of float32.

    Args:
        step: (), int64, on the device of the result, such as a module's buffer that counts steps.
            On a GPU it is read by the kernel, without synchronisation.
        features: length of the directions, ≥ 1.
        slices: number of directions, ≥ 1.
        seed: 0..2^63 - 1.
        dtype: of the result: float16, bfloat16, float32 or float64.
        impl: ``"auto"`` is ``"cpu"`` (C++) on the CPU, if it is built, and ``"triton"`` on CUDA;
            otherwise ``"reference"`` (torch).

    Returns:
        (features, slices) on the device of ``step``, uniform on the sphere. Columns are normalised
        normal numbers. They are drawn in float32 and rounded to ``dtype``; for float64 these
        float32 numbers are normalised once more. Each direction is contiguous: the result is the
        transpose of a contiguous (slices, features) tensor. No gradient.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a step that is not a scalar, sizes or a seed out of range, an unknown ``impl``,
            or one that does not run on this device.
        RuntimeError: an ``impl`` that was named but not built or installed.

    Philox: Salmon et al. 2011 (*Parallel random numbers: as easy as 1, 2, 3*). Directions that
    change at each step and are the same on all ranks: Balestriero and LeCun 2025 (LeJEPA,
    arXiv:2511.08544).
    """
    _check_step(step)
    check_integers(1, features=features, slices=slices)
    check_integers(0, MOST_SEED, seed=seed)
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise TypeError(
            f"dtype must be torch.float16, bfloat16, float32 or float64, got {shown(dtype)}"
        )
    check_choice("impl", impl, IMPLEMENTATIONS)
    return random_directions_op(step, features, slices, seed, dtype, impl)


def _check_step(step: Any) -> None:
    if not isinstance(step, Tensor):
        raise TypeError(f"step must be a tensor () of torch.int64, got {shown(step)}")
    if step.dtype != torch.int64:
        raise TypeError(f"step must be a tensor () of torch.int64, got {shown(step)}")
    if step.dim() != 0:
        raise ValueError(f"step must have no dimensions, got {shown(step)}")
    check_dense(step=step)
