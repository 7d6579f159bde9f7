"""The torch operator: schema, fake, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._operator import accumulation_dtype, operator, plain
from .._arguments import choose
from .kernels import Kernels, kernels

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton")


def _forward(
    q: Tensor, k: Tensor, topk: int, exclude: Sequence[int], impl: str
) -> tuple[Tensor, Tensor]:
    with plain(q):
        return _implementation(impl, q, topk, exclude).forward(q, k, topk, exclude)


def _fake(q: Tensor, k: Tensor, topk: int, exclude: Sequence[int], impl: str) -> Any:
    shape = (q.shape[0], topk)
    return q.new_empty(shape, dtype=accumulation_dtype(q)), q.new_empty(shape, dtype=torch.int64)


def _implementation(impl: str, q: Tensor, topk: int, exclude: Sequence[int]) -> Kernels:
    """Not in api.py, because torch.compile cannot trace whether TF32 is allowed."""
    chosen = choose(impl, IMPLEMENTATIONS, q)
    if chosen == "triton":
        from .triton import obstacle

        if reason := obstacle(q, topk, exclude):
            if impl == "triton":
                raise ValueError(f"impl='triton' {reason}; use impl='tiled' or 'auto'")
            chosen = "tiled"
    return kernels(chosen)


nearest_neighbor_op = operator(
    "nearest_neighbor(Tensor q, Tensor k, SymInt topk, int[] exclude, str impl)"
    " -> (Tensor similarities, Tensor indices)",
    _forward,
    _fake,
)
