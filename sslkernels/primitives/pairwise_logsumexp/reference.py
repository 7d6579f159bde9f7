"""The definition, in plain torch. With float64 inputs it is the oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._operator import accumulation_dtype, full_precision


def pairwise_logsumexp_reference(
    q: Tensor, k: Tensor, scale: Tensor, exclude: Sequence[int], columns: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """Materialise scale · q kᵀ and reduce it. Computes in ``promote_types(dtype, float32)``."""
    dtype = accumulation_dtype(q)
    with full_precision(q):
        scores = scale.to(dtype) * (q.to(dtype) @ k.to(dtype).T)  # (n, m)
        if exclude:
            i = torch.arange(q.shape[0], device=q.device)[:, None]
            j = torch.arange(k.shape[0], device=q.device)[None, :]
            offsets = torch.tensor(list(exclude), device=q.device)
            scores = scores.masked_fill(torch.isin(j - i, offsets), float("-inf"))
        rows = _logsumexp(scores, 1)
        return (rows, _logsumexp(scores, 0)) if columns else rows


def _logsumexp(scores: Tensor, dim: int) -> Tensor:
    # torch.logsumexp has a NaN gradient if all entries are -inf; here it is zero.
    empty = torch.isneginf(scores).all(dim)
    scores = scores.masked_fill(empty.unsqueeze(dim), 0.0)
    return torch.logsumexp(scores, dim).masked_fill(empty, float("-inf"))
