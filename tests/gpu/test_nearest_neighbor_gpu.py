"""Tests that need a device: values of the compiled kernel, streams, graphs, precision."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from oracle import check_nearest_neighbor

from sslkernels import nearest_neighbor
from sslkernels.primitives.nearest_neighbor import op

pytestmark = pytest.mark.gpu

each_implementation = pytest.mark.parametrize("impl", ["triton", "tiled"])


@pytest.fixture(autouse=True)
def _tf32():
    with float32_products("tf32"):
        yield


def integers(n, d, dtype=torch.bfloat16):
    return torch.randint(-3, 4, (n, d), device="cuda").to(dtype)


def assert_equals_reference(impl, q, k, topk=1, exclude=()):
    expected = nearest_neighbor(q, k, topk, exclude=exclude, impl="reference")
    ours = nearest_neighbor(q, k, topk, exclude=exclude, impl=impl)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [1, 17, 64, 100, 128, 256, 300, 512])
def test_as_exact_as_eager(impl, dtype, d):
    for n, m in ((1500, 1500), (100, 5003)):
        check_nearest_neighbor(
            impl, n, m, d, exclude=(0, 3, -3), dtype=dtype, device="cuda", draws=2, floor=1e-6
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("topk", [20, 200])
@pytest.mark.parametrize("d", [128, 1024])
def test_several_neighbors(dtype, topk, d):
    check_nearest_neighbor(
        "tiled", 2500, 9001, d, topk, (0,), dtype=dtype, device="cuda", draws=2, floor=1e-6
    )


@each_implementation
@pytest.mark.parametrize("n, m", [(1, 1), (1, 3000), (3000, 1), (127, 129), (256, 20000)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_of_equals_the_smallest_index(impl, n, m, dtype):
    q, k = integers(n, 4, dtype), integers(m, 4, dtype)
    for topk in {1, min(m, 50)} if impl == "tiled" else {1}:
        assert_equals_reference(impl, q, k, topk)
        assert_equals_reference(impl, q, k, topk, (0, 5, -200, 2999))


@each_implementation
def test_nan_and_nothing_left(impl):
    q, k = integers(400, 32), integers(3000, 32)
    q[250, 3] = float("nan")
    assert_equals_reference(impl, q, k)
    k[[700, 2900], 5] = -float("nan")
    assert_equals_reference(impl, q, k, 1, (0, 600))
    similarities, indices = nearest_neighbor(q[:1], k[:1], exclude=(0,), impl=impl)
    assert similarities.item() == -float("inf") and indices.item() == -1


def test_auto_follows_the_rule():
    def chosen(q, topk=1, exclude=()):
        return op._implementation("auto", q, topk, exclude).__name__.rpartition(".")[2]

    half, single = integers(8, 64), integers(8, 64, torch.float32)
    assert chosen(half, exclude=[0]) == chosen(single) == chosen(integers(8, 513)) == "triton"
    assert chosen(half, topk=2) == chosen(half, exclude=[0, 1, 2, 3, 4]) == "tiled"
    assert chosen(single.double()) == "tiled"
    with float32_products("ieee"):
        assert chosen(single) == "tiled"


@pytest.mark.parametrize("topk", [1, 20])
def test_bitwise_repeatable(topk):
    q = torch.randn(5000, 128, device="cuda", dtype=torch.bfloat16)
    assert_repeats(lambda: nearest_neighbor(q, q, topk, exclude=(0,)))


@pytest.mark.parametrize("topk", [1, 20])
def test_graph_capture_and_no_host_sync(topk):
    q = torch.randn(300, 128, device="cuda", dtype=torch.bfloat16)
    k = torch.randn(9000, 128, device="cuda", dtype=torch.bfloat16)

    def step():
        return nearest_neighbor(q, k, topk, exclude=(0,))

    assert_no_wait(step)
    assert_repeats_as_graph(step)


@pytest.mark.parametrize("topk", [1, 20])
def test_memory_is_linear(topk):
    q = torch.randn(65536, 64, device="cuda", dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    nearest_neighbor(q, q, topk, exclude=(0,))
    assert torch.cuda.max_memory_allocated() - before < 400 * 2**20  # the products: 16 GiB


def test_compiles():
    def function(q, k):
        indices = nearest_neighbor(q, k)[1]
        return (q * k[indices[:, 0]]).sum(1)

    q, k = torch.randn(500, 64, device="cuda"), torch.randn(700, 64, device="cuda")
    compiled = torch.compile(function, fullgraph=True)
    torch.testing.assert_close(compiled(q, k), function(q, k))
