"""Tests that need a device: values of the compiled kernels, streams, graphs, memory."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from slices import check_sliced_epps_pulley, unit_columns

from sslkernels import Quadrature, SIGRegLoss, sliced_epps_pulley

pytestmark = pytest.mark.gpu

QUADRATURES = [Quadrature.trapezoid(33), Quadrature.trapezoid(10), Quadrature.trapezoid(45, 5.0)]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=["ieee", "tf32"], autouse=True)
def _precision(request):
    with float32_products(request.param):
        yield


@each_dtype
@pytest.mark.parametrize("impl", ["triton", "tiled"])
@pytest.mark.parametrize("quadrature", QUADRATURES, ids=lambda q: f"{len(q.weights)} knots")
def test_as_exact_as_eager(impl, dtype, quadrature):
    check_sliced_epps_pulley(impl, (3, 700, 128), 300, quadrature, dtype, "cuda", draws=2)


@each_dtype
@pytest.mark.parametrize("shape, m", [
    ((1, 9, 1), 1), ((8, 256, 64), 1024), ((2, 5000, 100), 70), ((1, 300, 192), 1000),
    ((2, 300, 512), 256),
])  # fmt: skip
def test_shapes(dtype, shape, m):
    check_sliced_epps_pulley("triton", shape, m, dtype=dtype, device="cuda", draws=2)


def step_of(dtype, d=128):
    z = torch.randn(4, 300, d, device="cuda", dtype=dtype, requires_grad=True)
    a = unit_columns(d, 256, dtype, "cuda")

    def step():
        statistics = sliced_epps_pulley(z, a)
        return statistics.detach(), *torch.autograd.grad(statistics.mean(), z)

    return step


@each_dtype
@pytest.mark.parametrize("d", [128, 300])
def test_repeats_in_a_graph_without_a_wait(dtype, d):
    step = step_of(dtype, d)
    assert_no_wait(step)
    assert_repeats(step)
    assert_repeats_as_graph(step)


def test_the_loss_does_not_wait_for_its_step():
    loss, z = SIGRegLoss(256).cuda(), torch.randn(4, 300, 64, device="cuda", requires_grad=True)
    assert_no_wait(lambda: torch.autograd.grad(loss(z), z))


def test_memory():
    torch.use_deterministic_algorithms(False)
    z = torch.randn(8, 20000, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    a = unit_columns(128, 2048, torch.bfloat16, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    sliced_epps_pulley(z, a).mean().backward()
    assert torch.cuda.max_memory_allocated() - before < 200 * 2**20  # × 17 knots: 10.4 GiB
