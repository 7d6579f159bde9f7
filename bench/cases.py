"""What is measured: for each operation its inputs, its exact result, and the work it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operation. ``flops``, ``bytes`` and ``exps`` give {"fwd": …, "bwd": …}."""

    shape_meaning: str
    shapes: dict[str, tuple[Shape, ...]]  # by device, and "quick"
    make_inputs: Callable[[Shape, torch.dtype, str], list[Tensor]]
    oracle: Callable[[list[Tensor], float], tuple[Tensor, Tensor]]
    matrix_size: Callable[[Shape], int]  # elements of what a plain implementation materialises
    flops: Callable[[Shape, str], dict[str, int]]
    bytes: Callable[[Shape, torch.dtype], dict[str, int]]
    exps: Callable[[Shape, str], dict[str, int]]
    work: dict[str, str]  # by device: which count of the work the percentages use


def _two_views(shape: Shape, dtype: torch.dtype, device: str) -> list[Tensor]:
    n, d = shape
    generator = torch.Generator().manual_seed(0)
    out0 = torch.randn(n, d, generator=generator)
    out1 = out0 + torch.randn(n, d, generator=generator)
    return [x.to(device, dtype).requires_grad_() for x in (out0, out1)]


def _nt_xent_oracle(inputs: list[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Loss and concatenated gradient in float64, from the definition, some rows at a time."""
    inputs = [x.detach().double().requires_grad_() for x in inputs]
    n = inputs[0].shape[0]
    partner = torch.arange(2 * n, device=inputs[0].device).roll(n)
    loss = inputs[0].new_zeros(())
    step = max(1, 2**24 // (2 * n))
    for start in range(0, 2 * n, step):
        rows = slice(start, start + step)
        z = F.normalize(torch.cat(inputs), dim=1)
        scores = z[rows] @ z.T / temperature  # (step, 2n)
        scores.diagonal(start).fill_(float("-inf"))
        part = F.cross_entropy(scores, partner[rows], reduction="sum") / (2 * n)
        part.backward()
        loss += part.detach()
    return loss, torch.cat([x.grad for x in inputs])


def _nt_xent_flops(shape: Shape, device: str) -> dict[str, int]:
    n, d = shape
    half = (2 * n) ** 2 * d  # the symmetric scores, each computed once
    return {"fwd": half, "bwd": (4 if device == "cuda" else 3) * half}


def _nt_xent_bytes(shape: Shape, dtype: torch.dtype) -> dict[str, int]:
    n, d = shape
    embeddings, rows = 2 * n * d * dtype.itemsize, 2 * n * 4
    return {"fwd": embeddings + rows, "bwd": 2 * embeddings + rows}


def _nt_xent_exps(shape: Shape, device: str) -> dict[str, int]:
    half = (2 * shape[0]) ** 2 // 2
    return {"fwd": half, "bwd": (2 if device == "cuda" else 1) * half}


CASES = {
    "nt_xent": Case(
        shape_meaning="N pairs x D features, so M = 2N rows",
        shapes={
            "cpu": ((1024, 128), (4096, 128), (4096, 512), (32768, 128)),
            "cuda": tuple(
                (n, d) for d in (128, 256, 512, 2048) for n in (4096, 16384, 32768, 65536)
            ),
            "quick": ((512, 128),),
        },
        make_inputs=_two_views,
        oracle=_nt_xent_oracle,
        matrix_size=lambda shape: (2 * shape[0]) ** 2,
        flops=_nt_xent_flops,
        bytes=_nt_xent_bytes,
        exps=_nt_xent_exps,
        work={
            "cpu": "fwd M²D, bwd 3M²D: symmetric, each score computed once",
            "cuda": "fwd M²D symmetric, bwd 4M²D row-owned",
        },
    ),
}
