"""The torch operator: schema, fake, and the choice of kernels. No derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._operator import operator, plain
from .._arguments import choose
from .kernels import kernels

IMPLEMENTATIONS = ("auto", "reference", "cpu", "triton")


def _random_directions(
    step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype, impl: str
) -> Tensor:
    chosen = choose(impl, IMPLEMENTATIONS, step)
    draw = kernels("reference" if chosen == "tiled" else chosen).random_directions
    with plain(step):
        if dtype != torch.float64:
            return draw(step, features, slices, seed, dtype).T
        x = draw(step, features, slices, seed, torch.float32).double()
        return x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True)).T


def _fake(
    step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype, impl: str
) -> Tensor:
    return step.new_empty((slices, features), dtype=dtype).T


random_directions_op = operator(
    "random_directions(Tensor step, SymInt features, SymInt slices, int seed, ScalarType dtype,"
    " str impl) -> Tensor",
    _random_directions,
    _fake,
)
