"""The C++ kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._ext import DTYPES, extension


def random_directions(
    step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype
) -> Tensor:
    """(slices, features)."""
    out = step.new_empty((slices, features), dtype=dtype)
    threads = torch.get_num_threads()
    extension().random_directions(
        seed, step.item(), slices, features, DTYPES[dtype], threads, out.data_ptr()
    )
    return out
