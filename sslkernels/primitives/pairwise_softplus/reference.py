"""The definition, in plain torch. With float64 inputs it is the oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..._operator import accumulation_dtype, full_precision
from .._tiles import fill_diagonals

THRESHOLD = 40.0  # above, softplus(x) = x in float64 too; torch's 20 is too small


def pairwise_softplus_reference(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]
) -> Tensor:
    """Materialise the scores and sum. Computes in ``promote_types(dtype, float32)``."""
    dtype = accumulation_dtype(q)
    with full_precision(q):
        scores = scale.to(dtype) * (q.to(dtype) @ k.to(dtype).T) + bias.to(dtype)  # (n, m)
        scores = fill_diagonals(scores, exclude, float("-inf"))
        return F.softplus(scores, threshold=THRESHOLD).sum(1)
