"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes."""

import pytest
import torch
from covering import covering
from oracle import check_offdiagonal_norm

from sslkernels import Standardized, offdiagonal_norm
from sslkernels.primitives.offdiagonal_norm import triton
from sslkernels.primitives.offdiagonal_norm.columns import Columns, standardize

COLUMNS = ["raw", "centered", "standardized", Standardized(1e-3, 1, 1e-2)]
ROUTES = ["sample", "feature"]
DTYPES = ["float16", "float32", "float32 fused"]
# Tiles of 8 rows and 128 columns: several of them in each direction, and in each split of the rows.
SHAPES = [(17, 200), (37, 33)]

each_columns = pytest.mark.parametrize("columns", COLUMNS, ids=str)
each_route = pytest.mark.parametrize("route", ROUTES)
with_itself_or_not = pytest.mark.parametrize("symmetric", [True, False], ids=["itself", "another"])


@pytest.fixture(params=DTYPES)
def dtype(request):
    """When fused, float32 separates the diagonal of a Gram matrix, as float16 does."""
    if request.param == "float32 fused":
        request.getfixturevalue("fused_float32")
    return torch.float16 if request.param == "float16" else torch.float32


def outcome(inputs, weight=1.0, **how):
    leaves = [x.detach().requires_grad_() for x in inputs]
    norm, diagonal = offdiagonal_norm(*leaves, **how)
    ramp = torch.arange(1, len(diagonal) + 1, dtype=torch.float64) / len(diagonal)
    total = weight * (norm.double() + (diagonal.double() * ramp).sum())
    return norm.detach(), diagonal.detach(), *torch.autograd.grad(total, leaves)


@pytest.mark.parametrize(
    "dtype, columns, symmetric, shape",
    covering(DTYPES, COLUMNS, [True, False], SHAPES),
    indirect=["dtype"],
    ids=str,
)
def test_as_exact_as_eager(dtype, columns, symmetric, shape):
    check_offdiagonal_norm("triton", *shape, columns, symmetric, dtype=dtype)


@pytest.mark.parametrize(
    "dtype, route, symmetric, shape, columns",
    covering(DTYPES, ROUTES, [True, False], SHAPES, ["raw", COLUMNS[-1]]),
    indirect=["dtype"],
    ids=str,
)
def test_routes(dtype, route, symmetric, shape, columns):
    check_offdiagonal_norm("triton", *shape, columns, symmetric, route, dtype, draws=6, floor=1e-6)


@pytest.mark.parametrize(
    "route, symmetric, shape, columns",
    covering(ROUTES, [True, False], [(1, 1), (1, 5), (2, 1), (2, 3)], COLUMNS),
    ids=str,
)
def test_edges(route, symmetric, shape, columns):
    inputs = [torch.randn(shape) for _ in range(1 if symmetric else 2)]
    exact = outcome([x.double() for x in inputs], columns=columns, impl="reference")
    found = outcome(inputs, columns=columns, impl="triton", route=route)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


@with_itself_or_not
def test_one_feature(dtype, symmetric):
    inputs = [torch.randn(17, 1).to(dtype) for _ in range(1 if symmetric else 2)]
    for columns in COLUMNS:
        exact = offdiagonal_norm(*[x.double() for x in inputs], columns=columns, impl="reference")
        found = offdiagonal_norm(*inputs, columns=columns, impl="triton")
        assert found[0] == 0
        torch.testing.assert_close(found[1].double(), exact[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "route, layout, columns",
    [
        *covering(ROUTES, ["transposed", "sliced", "expanded", "stepped"], COLUMNS),
        *((route, "repeated", "raw") for route in ROUTES),  # otherwise its gradients nearly vanish
    ],
    ids=str,
)
def test_strides(route, layout, columns):
    a = {
        "transposed": torch.randn(40, 37).T,
        "sliced": torch.randn(37, 60)[:, 7:47],
        "expanded": torch.randn(1, 40).expand(37, 40),
        "stepped": torch.randn(74, 80)[::2, ::2],
        "repeated": torch.randn(37, 1).expand(37, 40),
    }[layout]
    b = torch.randn(80, 37).T[:, ::2]
    for inputs in ([a], [a, b], [b, a]):
        strided = outcome(inputs, columns=columns, impl="triton", route=route)
        plain = outcome([x.contiguous() for x in inputs], columns=columns, impl="tiled")
        for x, y in zip(strided, plain, strict=True):
            assert (x.double() - y.double()).norm() <= 1e-4 * y.double().norm() + 1e-6


@pytest.mark.parametrize(
    "route, columns, size", covering(ROUTES, COLUMNS, [48.0, 1e-4, 1e3]), ids=str
)
def test_scales_that_overflow_float16_products(route, columns, size):
    n, d = (40, 12) if route == "feature" else (12, 130)
    inputs = [(size * torch.randn(n, d)).half() for _ in range(2)]
    doubles = [x.double() for x in inputs]
    weight = 1 / outcome(doubles, columns=columns, impl="reference")[2].abs().max().item()
    exact = outcome(doubles, weight, columns=columns, impl="reference")
    found = outcome(inputs, weight, columns=columns, impl="triton", route=route)
    for ours, expected in zip(found, exact, strict=True):
        assert (ours.double() - expected).norm() <= 2e-3 * expected.norm()


@with_itself_or_not
@pytest.mark.parametrize("n, d", [(1, 1), (5, 3), (70, 300), (33, 128)])
def test_square_sum(monkeypatch, dtype, symmetric, n, d):
    """The triangle of tiles, used for wider matrices, and the square."""
    for fewest in (1, 10_000):
        monkeypatch.setattr(triton, "FEWEST_FOR_TRIANGLE", fewest)
        a = Columns(torch.randn(n, d).to(dtype))
        b = None if symmetric else Columns(torch.randn(d, n).to(dtype).T)
        product = a.x.double().T @ (b or a).x.double()
        exact = (product - product.diagonal().diag()).square().sum()
        torch.testing.assert_close(triton.square_sum(a, b), exact, rtol=1e-6, atol=0)


def test_sums_over_many_rows_keep_their_digits():
    x = torch.randn(1000, 5) + 300.0
    exact = x.double()
    mean, squares = triton.statistics(x)
    torch.testing.assert_close(mean, exact.mean(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(squares, exact.var(0, correction=0) * 1000, rtol=1e-6, atol=0)
    a = standardize(x, mean, squares, 1000, [1e-5, 0.0, 0.0])
    torch.testing.assert_close(triton.dot(a, a), torch.full_like(mean, 1000), rtol=1e-4, atol=0)


@each_route
@each_columns
def test_nan_in_nan_out(route, columns):
    a, b = torch.randn(30, 40), torch.randn(30, 40)
    a[3, 7] = float("nan")
    norm, diagonal, da, db = outcome([a, b], columns=columns, impl="triton", route=route)
    assert norm.isnan() and diagonal.isnan().nonzero().flatten().tolist() == [7]
    assert da.isnan().any() and db.isnan().any()


@each_route
def test_features_that_never_change(route):
    inputs = [torch.randn(40, 30) for _ in range(2)]
    inputs[0][:, 5] = 1e4 / 3
    inputs[1][:, [5, 9]] = 0.0
    exact = outcome([x.double() for x in inputs], columns="standardized", impl="reference")
    found = outcome(inputs, columns="standardized", impl="triton", route=route)
    for ours, expected in zip(found, exact, strict=True):
        assert (ours.double() - expected).norm() <= 1e-5 * expected.norm()
    assert found[1][[5, 9]].tolist() == [0.0, 0.0]


@each_route
def test_backward_twice_and_only_where_asked_for(dtype, route):
    """Tensors kept by the forward pass are not overwritten."""
    a, b = (torch.randn(30, 20).to(dtype) for _ in range(2))
    leaf = a.clone().requires_grad_()
    norm, _ = offdiagonal_norm(leaf, b, columns="standardized", impl="triton", route=route)
    first, second = (torch.autograd.grad(norm, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second) and first.dtype == dtype
    leaves = [a.clone().requires_grad_(), b.clone().requires_grad_()]
    norm, _ = offdiagonal_norm(*leaves, columns="standardized", impl="triton", route=route)
    assert torch.equal(torch.autograd.grad(norm, leaves)[0], first)
