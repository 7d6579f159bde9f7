"""Tests that need a device: values of torch's own kernels there, and no synchronisation."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products

from sslkernels import random_directions, sliced_wasserstein

pytestmark = pytest.mark.gpu


def step_of(z, slices):
    counter = torch.full((), 3, dtype=torch.int64, device="cuda")

    def step():
        directions = random_directions(counter, z.shape[-1], slices, dtype=z.dtype)
        loss = sliced_wasserstein(z, directions)
        return [loss.detach(), *torch.autograd.grad(loss, z)]

    return step


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape, slices", [((1, 5), 3), ((3, 257, 33), 70), ((10, 256, 128), 1024)])
def test_the_value_is_the_reference(shape, slices, dtype):
    z = torch.randn(shape, device="cuda", dtype=torch.float64).to(dtype)
    step = torch.zeros((), dtype=torch.int64, device="cuda")
    directions = random_directions(step, shape[-1], slices, dtype=dtype)
    exact = sliced_wasserstein(z.double(), directions.double(), impl="reference")
    with float32_products("ieee"):
        ours = sliced_wasserstein(z, directions)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance)


def test_the_gradient_is_the_reference():
    z = torch.randn(2, 200, 30, device="cuda", dtype=torch.float64, requires_grad=True)
    step = torch.zeros((), dtype=torch.int64, device="cuda")
    directions = random_directions(step, 30, 300, dtype=torch.float64)
    ours = torch.autograd.grad(sliced_wasserstein(z, directions), z)
    exact = torch.autograd.grad(sliced_wasserstein(z, directions, impl="reference"), z)
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_graph_capture_and_no_host_sync(dtype):
    z = torch.randn(3, 256, 64, device="cuda", dtype=dtype, requires_grad=True)
    step = step_of(z, 1024)
    assert_no_wait(step)
    assert_repeats(step)
    assert_repeats_as_graph(step)


def test_projections_are_not_stored():
    z = torch.randn(8, 4096, 64, device="cuda", requires_grad=True)
    step = step_of(z, 4096)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    step()
    assert torch.cuda.max_memory_allocated() - before < 256 * 2**20  # the projections: 512 MiB
