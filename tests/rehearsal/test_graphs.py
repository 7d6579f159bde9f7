"""Steps captured in a CUDA graph: no waits, and no compilation."""

import pytest
import torch
from cases import CASES
from steps import WAITING, loss_step

from bench.rehearsal import Fault


def capture(step):
    step()  # compiles
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        return step()


@pytest.mark.parametrize("name", [name for name in CASES if name not in WAITING])
def test_every_loss_that_does_not_wait(name):
    loss, *_ = capture(loss_step(name, 70, 20, torch.bfloat16))
    assert loss.is_cuda


@pytest.mark.parametrize("name", WAITING)
def test_losses_that_wait_are_refused(name):
    with pytest.raises(Fault, match="while a graph is captured"):
        capture(loss_step(name, 70, 20, torch.bfloat16))
