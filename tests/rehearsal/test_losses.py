"""Every loss, forward and backward: one device, no waits, operators that match their fakes."""

import pytest
import torch
from cases import CASES
from device import float32_products
from steps import WAITING, loss_step, no_wait

each_loss = pytest.mark.parametrize("name", CASES)


@each_loss
@pytest.mark.parametrize("dtype, precision", [
    (torch.float32, "ieee"), (torch.float32, "tf32"), (torch.bfloat16, "ieee"),
    (torch.float16, "ieee"),
], ids=str)  # fmt: skip
def test_runs_without_waiting(name, dtype, precision, operations):
    operations.documented = WAITING.get(name, set())
    step = loss_step(name, 70, 20, dtype)
    with float32_products(precision), no_wait():
        loss, *gradients = step()
    assert loss.shape == () and loss.is_cuda
    case = CASES[name]
    learned = [x for i, x in enumerate(gradients)
               if not case.embeddings - case.constant <= i < case.embeddings]  # fmt: skip
    assert all(x is not None and x.is_cuda and x.dtype == dtype for x in learned)
    assert set(operations.waited) == operations.documented
