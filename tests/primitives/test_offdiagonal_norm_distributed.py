"""On 2 and 4 ranks against one process with all rows."""

import pytest
import torch
from covering import covering

from sslkernels import Standardized, offdiagonal_norm
from sslkernels.distributed import Gather

COLUMNS = ["raw", "centered", Standardized(1e-3, 1, 1e-2)]


def step(sizes, d, columns, symmetric, route, dtype=torch.float64, rank=None):
    """Norm, diagonal and gradients of one rank's rows; of all rows if rank is None."""
    torch.manual_seed(1)
    inputs = [torch.randn(sum(sizes), d, dtype=torch.float64) for _ in range(1 if symmetric else 2)]
    weights = torch.randn(d, dtype=torch.float64)
    gather = None
    if rank is not None:
        start, gather = sum(sizes[:rank]), Gather()
        inputs = [x[start : start + sizes[rank]] for x in inputs]
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    norm, diagonal = offdiagonal_norm(*leaves, columns=columns, gather=gather, route=route)
    grads = torch.autograd.grad(norm + weights @ diagonal.double(), leaves)
    return [x.detach().double() for x in (norm, diagonal, *grads)]


def on_rank(rank, *arguments):
    return step(*arguments, rank=rank)


@pytest.mark.parametrize("columns, symmetric, route, even, d", covering(
    COLUMNS, [True, False], ["sample", "feature"], [True, False], [1, 6, 150]
), ids=str)  # fmt: skip
def test_equals_one_process(gang, columns, symmetric, route, even, d):
    sizes = [12] * gang.size if even else [12, 7, 9, 8][: gang.size]
    norm, diagonal, *grads = step(sizes, d, columns, symmetric, route)
    blocks = [grad.split(sizes) for grad in grads]
    for rank, found in enumerate(gang.run(on_rank, sizes, d, columns, symmetric, route)):
        # all ranks have the same loss, and gradients are those of the sum
        expected = [norm, diagonal, *(gang.size * block[rank] for block in blocks)]
        scale = max(grad.norm() for grad in grads) + norm + diagonal.norm()
        for a, b in zip(found, expected, strict=True):
            assert (a - b).norm() <= 1e-12 * b.norm() + 1e-14 * scale


@pytest.mark.parametrize("route", ["sample", "feature"])
@pytest.mark.parametrize("d", [1, 3, 50])
def test_float32(gang, route, d):
    """For one and three columns, some ranks have none."""
    sizes = [12, 7, 9, 8][: gang.size]
    expected = step(sizes, d, "centered", False, route)
    found = gang.run(on_rank, sizes, d, "centered", False, route, torch.float32)
    for rank, (norm, diagonal, *grads) in enumerate(found):
        assert abs(norm - expected[0]) <= 1e-5 * (expected[0] + expected[1].square().sum())
        assert (diagonal - expected[1]).norm() <= 1e-5 * expected[1].norm()
        for grad, exact in zip(grads, expected[2:], strict=True):
            exact = gang.size * exact.split(sizes)[rank]
            assert (grad - exact).norm() <= 1e-5 * exact.norm()
