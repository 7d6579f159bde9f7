"""One launch of the Triton kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from .._tile_table import ceil, power_of_two
from .triton_kernels import directions_kernel

BLOCK = 256  # blocks of four numbers per program
NARROWEST = 16  # minimum in a row


def random_directions(
    step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype
) -> Tensor:
    """(slices, features)."""
    out = step.new_empty((slices, features), dtype=dtype)
    columns = min(BLOCK, max(NARROWEST, power_of_two(ceil(features, 4))))
    rows = BLOCK // columns
    directions_kernel[(ceil(slices, rows),)](
        step, out, slices, features, seed, ROWS=rows, COLUMNS=columns, num_warps=4
    )
    return out
