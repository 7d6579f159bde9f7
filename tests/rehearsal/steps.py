"""Steps as in training: everything is on the device, and nothing may wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from cases import CASES
from torch import Tensor

from bench.rehearsal.faults import Place

Step = Callable[[], Sequence[Tensor | None]]

# The only functions that may wait for the device: they decompose matrices, or count tiles.
WAITING = {
    "supcon solo_learn": {Place("primitives/same_label.py", "_tiles")},
    "mmcr": {Place("losses/covariance/nuclear_norm.py", "_norm_and_polar")},
    "cca": {Place("losses/covariance/cca.py", "_SumOfCorrelations.forward")},
    "cca of some dimensions": {Place("losses/covariance/cca.py", "_SumOfCorrelations.forward")},
    "w_mse": {Place("losses/covariance/w_mse.py", "_cholesky")},
}


@contextmanager
def no_wait() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def loss_step(name: str, n: int, d: int, dtype: torch.dtype, scalars: Sequence[float] = ()) -> Step:
    """The value of a loss, and its gradients."""
    case = CASES[name]
    inputs = case.inputs(n, d, dtype)
    for place, scalar in enumerate(scalars, case.embeddings):
        inputs[place].fill_(scalar)
    inputs = [x.cuda().requires_grad_() for x in inputs]
    labels = torch.arange(n, device="cuda") % 10

    def step() -> Sequence[Tensor | None]:
        loss = case.compute(inputs, labels)
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        return loss, *gradients

    return step
