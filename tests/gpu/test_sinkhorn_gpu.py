"""Tests that need a device: values of the compiled kernels, streams, graphs, large sizes."""

import math

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph
from oracle import check_sinkhorn

from sslkernels import _ext, prototype_sinkhorn, sinkhorn

pytestmark = pytest.mark.gpu

KERNELS = ["triton", pytest.param("cuda", marks=pytest.mark.skipif(
    not _ext.HAS_CUDA_EXTENSION, reason="sslkernels._C was built without CUDA"))]  # fmt: skip
each_kernel = pytest.mark.parametrize("impl", KERNELS)
each_implementation = pytest.mark.parametrize("impl", [*KERNELS, "tiled"])
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str
)


def draw(*shape, dtype=torch.float32):
    return (0.3 * torch.randn(shape, device="cuda")).to(dtype)


@each_implementation
@each_dtype
@pytest.mark.parametrize("shape", [
    (128, 3000), (1000, 300), (5, 60, 70), (64, 16384), (40, 65536), (200, 4, 257),
], ids=str)  # fmt: skip
def test_as_exact_as_eager(impl, dtype, shape):
    check_sinkhorn(impl, shape, dtype=dtype, device="cuda")


@each_kernel
@each_dtype
@pytest.mark.parametrize("shape", [
    (1, 1), (1, 300), (300, 1), (33, 4097), (3, 20, 130), (2, 65537), (7, 131072), (5, 262144),
], ids=str)  # fmt: skip
def test_ragged_and_wide(impl, dtype, shape):
    if impl == "cuda" and _ext.extension(cuda=True).cuda_sinkhorn_cluster(shape[-1]) == 0:
        pytest.skip("no cluster of this device holds such a row")
    check_sinkhorn(impl, shape, dtype=dtype, device="cuda", floor=1e-6)


@each_implementation
@pytest.mark.parametrize("integer", [torch.int32, torch.int64], ids=str)
def test_only_the_first_rows_count(impl, integer):
    logits = draw(200, 5000)
    for count in (0, 1, 133, 200, 1000):
        held = logits.clone()
        held[count:] = float("nan")
        rows = torch.tensor(count, dtype=integer, device="cuda")
        ours = sinkhorn(held, rows=rows, impl=impl)
        expected = sinkhorn(logits.double(), rows=rows, impl="reference")
        torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=2e-6)


@each_implementation
def test_finite_where_the_linear_domain_is_not(impl):
    logits = torch.randn(64, 9000, device="cuda")
    logits[0, 0], logits[5, 7] = 3.6, 30
    logits[9] -= 3
    logits[10] -= 60
    logits[:, 11] -= 40
    for x in (logits, logits.half()):
        expected = sinkhorn(x.double(), 0.04, impl="reference")
        ours = sinkhorn(x, 0.04, impl=impl)
        torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


@each_kernel
def test_offsets_beyond_32_bits(impl):
    """The last of 40,000 rows of 65,536 logits starts beyond 2^31."""
    logits = draw(1, 65536, dtype=torch.bfloat16).expand(40_000, 65536).contiguous()
    logits[-1] = logits[-1].flip(0)
    x = logits[[0, -1]].double() / 0.05
    x[0] += math.log(39_999)
    once = sinkhorn(logits, 0.05, 1, impl=impl)
    torch.testing.assert_close(once.double(), 0.05 * x.logsumexp(0), rtol=1e-5, atol=1e-6)
    thrice, expected = sinkhorn(logits, impl=impl), sinkhorn(logits, impl="tiled")
    torch.testing.assert_close(thrice, expected, rtol=1e-5, atol=1e-5)


@each_kernel
@pytest.mark.parametrize("shape", [(300, 9000), (64, 65536), (9, 30, 700)], ids=str)
def test_bitwise_repeatable_without_waiting_and_as_a_graph(impl, shape):
    logits, count = draw(*shape, dtype=torch.bfloat16), torch.tensor(20, device="cuda")

    def step():
        return sinkhorn(logits, impl=impl), sinkhorn(logits, rows=count, impl=impl)

    assert_repeats(step)
    assert_no_wait(step)
    assert_repeats_as_graph(step)


@each_kernel
def test_other_streams(impl):
    logits = draw(300, 20000, dtype=torch.bfloat16)
    expected = sinkhorn(logits, impl=impl)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = logits.clone()
        for _ in range(50):
            delayed = delayed * 1.0
        found = sinkhorn(delayed, impl=impl)
    stream.synchronize()
    assert torch.equal(found, expected)


@each_implementation
@each_dtype
@pytest.mark.parametrize("weights", [False, True], ids=["plain", "weights"])
def test_from_features(impl, dtype, weights):
    features, prototypes = (torch.randn(n, 64, device="cuda").to(dtype) for n in (500, 20000))
    magnitude = 0.5 + torch.rand(20000, device="cuda") if weights else None
    how = {"epsilon": 2.0, "magnitude": magnitude}
    ours = prototype_sinkhorn(features, prototypes, impl=impl, **how)
    exact = prototype_sinkhorn(features.double(), prototypes.double(), **how, impl="reference")
    # weighted prototypes are rounded once more
    tolerance = max(1e-5, torch.finfo(dtype).eps) if weights else 1e-5
    error = (ours - exact) - (ours - exact).mean()
    assert error.norm() <= tolerance * (exact - exact.mean()).norm()


@each_implementation
def test_memory(impl):
    """Logits of 320 MiB, without storing a plan."""
    logits = draw(2560, 65536, dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    sinkhorn(logits, impl=impl)
    assert torch.cuda.max_memory_allocated() - before < 200 * 2**20


@each_kernel
def test_compiles(impl):
    logits = draw(30, 5000)
    compiled = torch.compile(lambda x: sinkhorn(x, impl=impl), fullgraph=True)
    torch.testing.assert_close(compiled(logits), sinkhorn(logits, impl=impl))
