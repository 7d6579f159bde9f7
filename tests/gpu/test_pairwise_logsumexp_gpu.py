"""Tests that need a device: values of the compiled kernels, streams, graphs, precision."""

import pytest
import torch
import torch.nn.functional as F
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from oracle import check_pairwise_logsumexp

import sslkernels
from sslkernels import _ext, pairwise_logsumexp

pytestmark = pytest.mark.gpu

IMPLEMENTATIONS = ["triton", "tiled", pytest.param("cuda", marks=pytest.mark.skipif(
    not _ext.HAS_CUDA_EXTENSION, reason="sslkernels._C was built without CUDA"))]  # fmt: skip
each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("m", [None, 1100], ids=["symmetric", "general"])
@pytest.mark.parametrize("scale", [2.0, 20.0, 100.0, -1.0])
@pytest.mark.parametrize("d", [64, 128])
def test_as_exact_as_eager(impl, dtype, m, scale, d):
    check_pairwise_logsumexp(
        impl, 1500, m, d, scale, (0, 3, -3), dtype=dtype, device="cuda", draws=8
    )


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [1, 17, 100, 256, 300, 512, 513, 1024, 2048])
@pytest.mark.parametrize("scale", [4.0, 100.0], ids=["free", "shifted"])
def test_depths(impl, dtype, d, scale):
    for m in (None, 515):
        check_pairwise_logsumexp(
            impl, 700, m, d, scale, dtype=dtype, device="cuda", draws=2, floor=1e-6
        )


@each_implementation
@pytest.mark.parametrize("n, m", [(1, 1), (1, 3000), (3000, 1), (127, 129), (256, 5000)])
@pytest.mark.parametrize("columns", [False, True])
def test_edges(impl, n, m, columns):
    check_pairwise_logsumexp(
        impl, n, m, 40, 3.0, columns=columns, dtype=torch.bfloat16, device="cuda", draws=1,
        floor=1e-6,
    )  # fmt: skip


def test_blocks_of_several_tiles():
    for n in (8192, 9001):  # more tiles than blocks
        check_pairwise_logsumexp(
            "triton", n, None, 32, 5.0, (0,), dtype=torch.bfloat16, device="cuda", draws=1
        )


def test_tf32_only_where_allowed():
    q = F.normalize(torch.randn(2000, 256, device="cuda"), dim=1)
    exact = pairwise_logsumexp(q.double(), q.double(), 100.0, exclude=(0,), impl="reference")
    errors = {}
    for precision in ("ieee", "tf32"):
        with float32_products(precision):
            rows = pairwise_logsumexp(q, q, 100.0, exclude=(0,))
        errors[precision] = (rows - exact).abs().max().item()
    assert errors["ieee"] < 5e-5 < errors["tf32"] < 0.2


@each_implementation
def test_bitwise_repeatable(impl):
    q = torch.randn(5000, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    def run():
        rows = pairwise_logsumexp(q, q, 0.1, exclude=(0,), impl=impl)
        return rows, torch.autograd.grad(rows.sum(), q)[0]

    assert_repeats(run)


@pytest.mark.parametrize("d", [128, 1024])
def test_graph_capture_and_no_host_sync(d):
    q = torch.randn(1000, d, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    scale = torch.tensor(0.1, device="cuda", requires_grad=True)

    def step():
        rows = pairwise_logsumexp(q, q, scale, exclude=(0,))
        return rows, *torch.autograd.grad(rows.sum(), (q, scale))

    assert_no_wait(step)
    assert_repeats_as_graph(step)


@each_implementation
def test_other_streams(impl):
    q = torch.randn(3000, 64, device="cuda", dtype=torch.bfloat16)
    expected = pairwise_logsumexp(q, q, 0.1, exclude=(0,), impl=impl)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = q.clone()
        for _ in range(50):
            delayed = delayed * 1.0
        rows = pairwise_logsumexp(delayed, delayed, 0.1, exclude=(0,), impl=impl)
    stream.synchronize()
    assert torch.equal(rows, expected)


@each_implementation
def test_memory_is_linear(impl):
    q = torch.randn(32768, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    pairwise_logsumexp(q, q, 0.1, exclude=(0,), impl=impl).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 200 * 2**20  # the scores: 4 GiB


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_loss_compiles_and_trains(dtype):
    loss = sslkernels.NTXentLoss(0.1)
    compiled = torch.compile(loss, fullgraph=True)
    out = [torch.randn(500, 128, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2)]
    grads = [torch.autograd.grad(f(*out), out) for f in (loss, compiled)]
    for a, b in zip(*grads, strict=True):
        assert (a - b).float().norm() <= 0.02 * a.float().norm()


def test_nan_and_nothing_left():
    q = torch.randn(400, 32, device="cuda", dtype=torch.bfloat16)
    q[250, 3] = float("nan")
    for scale in (0.1, 10.0):
        rows, columns = pairwise_logsumexp(q, torch.randn_like(q).nan_to_num(), scale, columns=True)
        assert rows.isnan().nonzero().flatten().tolist() == [250]
        assert columns.isnan().all()
        one = torch.ones(1, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        alone = pairwise_logsumexp(one, one, scale, exclude=(0,))
        assert alone.isneginf().all()
        assert not torch.autograd.grad(alone.sum(), one)[0].any()
