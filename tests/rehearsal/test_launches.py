"""The number of launches of a loss, as counted by bench.launches."""

import pytest
import torch

from bench.launches import BUDGETS, count, measure


@pytest.mark.parametrize("op", BUDGETS)
def test_losses_keep_within_their_budgets(op, operations):
    counts = measure(op, operations.seen)
    assert counts["ours"].launches <= BUDGETS[op]
    assert counts["ours"].launches < counts["eager"].launches
    assert counts["ours"].kernels and not counts["eager"].kernels


def test_what_is_counted(operations):
    """Views and allocations launch nothing; casts, copies and gradients do."""
    x = torch.ones(4, 5, device="cuda", requires_grad=True)

    def loss(x):
        y = x.T[1:].reshape(4, 4).exp()
        return (torch.empty_like(y) + y.bfloat16()).sum()

    found = count(loss, [x], operations.seen)
    assert found.operations == {
        "copy_": 1, "exp": 1, "_to_copy": 3, "add": 1, "sum": 1, "ones_like": 1, "mul": 1,
        "slice_backward": 1,
    }  # fmt: skip
    assert found.operators == found.functions == 0 and found.kernels == {}
    assert found.microseconds == 5 * found.launches
