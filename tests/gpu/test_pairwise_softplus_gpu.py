"""Tests that need a device: values of the compiled kernels, streams, graphs, precision."""

import pytest
import torch
import torch.nn.functional as F
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from oracle import check_pairwise_softplus

from sslkernels import pairwise_softplus

pytestmark = pytest.mark.gpu

each_implementation = pytest.mark.parametrize("impl", ["triton", "tiled"])


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("scale, bias", [(10.0, -10.0), (1.0, 0.0), (100.0, 0.0), (-5.0, -2.0)])
@pytest.mark.parametrize("d", [64, 128])
def test_as_exact_as_eager(impl, dtype, scale, bias, d):
    check_pairwise_softplus(
        impl, 1500, 1100, d, scale, bias, (0, 3, -3), dtype=dtype, device="cuda", draws=8
    )


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [1, 17, 100, 256, 300, 512, 513, 1024, 2048])
def test_depths(impl, dtype, d):
    check_pairwise_softplus(
        impl, 700, 515, d, 10.0, -10.0, dtype=dtype, device="cuda", draws=2, floor=1e-6
    )


@each_implementation
@pytest.mark.parametrize("n, m", [(1, 1), (1, 3000), (3000, 1), (127, 129), (256, 5000)])
def test_edges(impl, n, m):
    check_pairwise_softplus(
        impl, n, m, 40, 3.0, -3.0, dtype=torch.bfloat16, device="cuda", draws=2, floor=1e-6
    )


@pytest.mark.parametrize("precision, dtype", [
    ("ieee", torch.float32), ("ieee", torch.float16), ("tf32", torch.float32),
])  # fmt: skip
def test_softplus_keeps_its_relative_accuracy(precision, dtype):
    """For the matrix-product route (ieee float32) and for the fused kernels."""
    logits = torch.linspace(-86.9, 86.9, 20_001, device="cuda")
    logits = (logits * 8).round() / 8  # exact in TF32 and float16
    q = logits[:, None].to(dtype)
    with float32_products(precision):
        rows = pairwise_softplus(q, torch.ones(1, 1, device="cuda", dtype=dtype), impl="triton")
    exact = F.softplus(logits.double(), threshold=40.0)
    assert ((rows - exact) / exact).abs().max() <= 6 * torch.finfo(torch.float32).eps


@each_implementation
def test_bitwise_repeatable(impl):
    q, k = (
        torch.randn(5000, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )

    def run():
        rows = pairwise_softplus(q, k, 0.1, -3.0, exclude=(0,), impl=impl)
        return rows, *torch.autograd.grad(rows.sum(), (q, k))

    assert_repeats(run)


@pytest.mark.parametrize("d", [128, 1024])
def test_graph_capture_and_no_host_sync(d):
    q, k = (
        torch.randn(1000, d, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )
    scale, bias = (torch.tensor(x, device="cuda", requires_grad=True) for x in (0.1, -3.0))

    def step():
        rows = pairwise_softplus(q, k, scale, bias, exclude=(0,))
        return rows, *torch.autograd.grad(rows.sum(), (q, k, scale, bias))

    assert_no_wait(step)
    assert_repeats_as_graph(step)


@each_implementation
def test_other_streams(impl):
    q = torch.randn(3000, 64, device="cuda", dtype=torch.bfloat16)
    expected = pairwise_softplus(q, q, 0.1, -3.0, impl=impl)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = q.clone()
        for _ in range(50):
            delayed = delayed * 1.0
        rows = pairwise_softplus(delayed, delayed, 0.1, -3.0, impl=impl)
    stream.synchronize()
    assert torch.equal(rows, expected)


@each_implementation
def test_memory_is_linear(impl):
    q, k = (
        torch.randn(32768, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    pairwise_softplus(q, k, 0.1, -3.0, impl=impl).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 200 * 2**20  # the scores: 4 GiB


def test_nan_and_nothing_left():
    q = torch.randn(400, 32, device="cuda", dtype=torch.bfloat16)
    k = torch.randn_like(q)
    q[250, 3] = float("nan")
    assert pairwise_softplus(q, k, 0.1).isnan().nonzero().flatten().tolist() == [250]
    assert pairwise_softplus(k, q, 0.1).isnan().all()
    one = torch.ones(1, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    alone = pairwise_softplus(one, one, exclude=(0,))
    assert alone.item() == 0
    assert not torch.autograd.grad(alone.sum(), one)[0].any()
