"""Checks the internals of torch and Triton on which the rehearsal relies."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from sslkernels import pairwise_logsumexp

from . import Rehearsal, launches
from .device import CUDA


class _Ask(torch.autograd.Function):
    """Records the device of a gradient."""

    found: torch.device

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        _Ask.found = gradient.device
        return gradient


def check() -> None:
    """Raises RuntimeError if this torch or Triton behaves differently."""
    with Rehearsal() as rehearsal:
        x = torch.ones(4, 16, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        _Ask.apply(x).sum().backward()
        with torch.device("cuda"):
            y = torch.ones(3)
        before, launched = rehearsal.operations.invented, launches.launched.total()
        y.sum().item()
        pairwise_logsumexp(x, x, impl="triton")
        found = {
            "a function mode answers for x.device": x.device == y.device == CUDA,
            "and for x.is_cuda": x.is_cuda and x.get_device() == 0,
            "and for x.data_ptr()": x.data_ptr() > 0,
            "it is there in the backward pass": _Ask.found == CUDA,
            "a dispatch mode sees that the host asks": rehearsal.operations.invented == before + 1,
            "launches are recorded": launches.launched.total() > launched,
        }
    missing = [what for what, there in found.items() if not there]
    if missing:
        raise RuntimeError(
            f"torch {torch.__version__} and Triton {triton.__version__} are not those that "
            f"bench/rehearsal was written for; no longer true: {'; '.join(missing)}"
        )
