"""Tests that need a device: values of the compiled kernels, streams, graphs, precision."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from oracle import check_offdiagonal_norm

pytest.importorskip("triton")

from sslkernels import Standardized, offdiagonal_norm  # noqa: E402
from sslkernels._operator import unit_of  # noqa: E402
from sslkernels.primitives.offdiagonal_norm import triton  # noqa: E402
from sslkernels.primitives.offdiagonal_norm.columns import Columns  # noqa: E402

pytestmark = pytest.mark.gpu

COLUMNS = ["raw", "centered", "standardized", Standardized(1e-3, 1, 1e-2)]

each_implementation = pytest.mark.parametrize("impl", ["triton", "tiled"])
each_columns = pytest.mark.parametrize("columns", COLUMNS, ids=str)
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str
)
each_route = pytest.mark.parametrize("route", ["sample", "feature"])
with_itself_or_not = pytest.mark.parametrize("symmetric", [True, False], ids=["itself", "another"])


def step_of(n, d, route, dtype=torch.bfloat16, impl="triton", symmetric=False):
    """Norm, diagonal and gradients."""
    a, b = (torch.randn(n, d, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2))
    inputs = [a] if symmetric else [a, b]

    def step():
        norm, diagonal = offdiagonal_norm(*inputs, columns="standardized", impl=impl, route=route)
        return norm, diagonal, *torch.autograd.grad(norm + diagonal.sum(), inputs)

    return step


@each_implementation
@each_dtype
@each_columns
@with_itself_or_not
@pytest.mark.parametrize("n, d", [
    (64, 4096), (256, 2048), (1000, 1500), (1024, 1024), (2048, 256), (4096, 64),
])  # fmt: skip
def test_as_exact_as_eager(impl, dtype, columns, symmetric, n, d):
    check_offdiagonal_norm(impl, n, d, columns, symmetric, dtype=dtype, device="cuda", draws=8)


@with_itself_or_not
@each_columns
@pytest.mark.parametrize("n, d", [(64, 4096), (256, 2048), (1024, 1024), (2048, 256)])
def test_as_exact_as_eager_in_tf32(symmetric, columns, n, d):
    with float32_products("tf32"):
        check_offdiagonal_norm("triton", n, d, columns, symmetric, device="cuda", draws=8)


@each_implementation
@each_dtype
@with_itself_or_not
@pytest.mark.parametrize("route, n, d", [
    ("feature", 64, 4097), ("feature", 500, 1300), ("sample", 1024, 256), ("sample", 1500, 1000),
])  # fmt: skip
def test_the_dearer_route(impl, dtype, symmetric, route, n, d):
    # floor: standardising removes from the gradient what the sample route subtracts
    check_offdiagonal_norm(
        impl, n, d, "standardized", symmetric, route, dtype, "cuda", draws=4, floor=1e-6
    )


@each_dtype
@each_route
@with_itself_or_not
@pytest.mark.parametrize("n, d", [(5, 7), (17, 200), (129, 127), (130, 515)])
def test_ragged_shapes(dtype, route, symmetric, n, d):
    check_offdiagonal_norm(
        "triton", n, d, "centered", symmetric, route, dtype, "cuda", draws=8, floor=1e-6
    )


@each_dtype
@with_itself_or_not
@pytest.mark.parametrize("n, d", [(300, 4500), (64, 8192), (1, 130), (700, 4096)])
def test_square_sum(dtype, symmetric, n, d):
    """The square, and for d of at least 4,096 the triangle of tiles."""
    a = Columns(torch.randn(n, d, device="cuda").to(dtype))
    b = None if symmetric else Columns(torch.randn(d, n, device="cuda").to(dtype).T)
    product = a.x.double().T @ (b or a).x.double()
    exact = product.square().sum() - product.diagonal().square().sum()
    for precision, relative in (("ieee", 1e-5), ("tf32", 1e-3)):
        with float32_products(precision):
            torch.testing.assert_close(triton.square_sum(a, b), exact, rtol=relative, atol=0)


@each_implementation
@each_route
@each_columns
@pytest.mark.parametrize("dtype, relative", [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("size", [8.0, 1e-4, 1e3])
def test_scales_that_overflow_half_precision_products(impl, route, columns, dtype, relative, size):
    n, d = (2048, 100) if route == "feature" else (100, 2048)
    inputs = [(size * torch.randn(n, d, device="cuda")).to(dtype) for _ in range(2)]

    def outcome(weight, inputs, **how):
        leaves = [x.detach().requires_grad_() for x in inputs]
        norm, diagonal = offdiagonal_norm(*leaves, columns=columns, **how)
        return norm, diagonal, *torch.autograd.grad(norm.double() * weight, leaves)

    doubles = [x.double() for x in inputs]
    weight = 1 / outcome(1.0, doubles, impl="reference")[2].abs().max().item()
    exact = outcome(weight, doubles, impl="reference")
    for ours, expected in zip(outcome(weight, inputs, impl=impl, route=route), exact, strict=True):
        assert (ours.double() - expected).norm() <= relative * expected.norm()


@each_route
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped"])
def test_strides(route, layout):
    a = {
        "transposed": torch.randn(200, 530).T,
        "sliced": torch.randn(530, 300)[:, 7:207],
        "expanded": torch.randn(1, 200).expand(530, 200),
        "stepped": torch.randn(1060, 400)[::2, ::2],
    }[layout].cuda()
    b = torch.randn(400, 530, device="cuda").T[:, ::2]
    for columns in COLUMNS:
        strided = offdiagonal_norm(a, b, columns=columns, route=route)
        plain = offdiagonal_norm(a.contiguous(), b.contiguous(), columns=columns, route=route)
        for x, y in zip(strided, plain, strict=True):
            assert (x - y).norm() <= 1e-5 * y.norm()


@each_implementation
@each_route
@pytest.mark.parametrize("n, d", [(400, 3000), (3000, 400)])
def test_bitwise_repeatable(impl, route, n, d):
    assert_repeats(step_of(n, d, route, impl=impl))


@each_dtype
@each_route
@with_itself_or_not
@pytest.mark.parametrize("n, d", [(300, 1000), (1000, 300)])
def test_graph_capture_and_no_host_sync(dtype, route, symmetric, n, d):
    step = step_of(n, d, route, dtype, symmetric=symmetric)
    assert_no_wait(step)
    assert_repeats_as_graph(step)


@each_implementation
@each_route
def test_other_streams(impl, route):
    a = torch.randn(500, 900, device="cuda", dtype=torch.bfloat16)

    def run(a):
        return offdiagonal_norm(a, columns="standardized", impl=impl, route=route)

    expected = run(a)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = a.clone()
        for _ in range(50):
            delayed = delayed * 1.0
        found = run(delayed)
    stream.synchronize()
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("route, limit", [("sample", 160), ("feature", 200)])
def test_memory_without_the_product(route, limit):
    """For 256 samples of 16,384 features: inputs of 8 MiB, gradients in float32 of 16 MiB."""
    step = step_of(256, 16384, route)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    step()
    assert torch.cuda.max_memory_allocated() - before < limit * 2**20  # the product: 1 GiB


def test_nan():
    a, b = (torch.randn(300, 400, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    a[3, 7] = float("nan")
    for route in ("sample", "feature"):
        norm, diagonal = offdiagonal_norm(a, b, columns="centered", route=route)
        assert norm.isnan() and diagonal.isnan().nonzero().flatten().tolist() == [7]


def test_compiles():
    def function(a, b):
        norm, diagonal = offdiagonal_norm(a.tanh(), b, columns="standardized")
        return norm + (diagonal - 1).square().sum()

    a, b = torch.randn(500, 64, device="cuda"), torch.randn(500, 64, device="cuda")
    compiled = torch.compile(function, fullgraph=True)
    torch.testing.assert_close(compiled(a, b), function(a, b))


def test_units_are_exact_powers_of_two():
    peaks = 1.7 * 2.0 ** torch.arange(-110, 111, device="cuda", dtype=torch.float32)
    assert (torch.frexp(unit_of(peaks)).mantissa == 0.5).all()
