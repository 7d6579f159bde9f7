"""The operator under torch's transformations."""

import itertools

import pytest
import torch
from covering import covering

from sslkernels import Standardized, offdiagonal_norm
from sslkernels._ext import HAS_EXTENSION

forward_op = torch.ops.sslkernels.offdiagonal_norm
backward_op = torch.ops.sslkernels.offdiagonal_norm_backward
COLUMNS = ["raw", "centered", "standardized", Standardized(1e-2, 1, 1e-1)]

each_route = pytest.mark.parametrize("route", ["sample", "feature"])


@pytest.mark.parametrize("columns", COLUMNS, ids=str)
@pytest.mark.parametrize("impl, route", [
    ("tiled", "sample"), ("tiled", "feature"), ("reference", "auto"),
])  # fmt: skip
@pytest.mark.parametrize("n, d", [(4, 3), (3, 5)])
def test_gradcheck(impl, route, columns, n, d):
    leaves = [torch.randn(n, d, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def function(*leaves):
        return offdiagonal_norm(*leaves, columns=columns, impl=impl, route=route)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradcheck(function, leaves[:1])


@pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)
@pytest.mark.parametrize("route, columns, shape, symmetric", covering(
    ["sample", "feature"],
    [("raw", []), ("centered", []), ("standardized", [1e-3, 1.0, 0.0])],
    [(6, 4), (4, 6)],
    [True, False],
), ids=str)  # fmt: skip
def test_opcheck(impl, route, columns, shape, symmetric):
    a = torch.randn(shape)
    b = a if symmetric else torch.randn(shape)
    arguments = (a, b, symmetric, *columns, impl, route)
    torch.library.opcheck(forward_op, arguments)
    _, diagonal, statistics, *kept = forward_op(*arguments)
    for needs in itertools.product([True, False], repeat=2):
        torch.library.opcheck(backward_op, (
            a, b, statistics, diagonal, *kept, torch.randn(()), torch.randn(shape[1]), list(needs),
            symmetric, impl, route,
        ))  # fmt: skip


@pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)
@pytest.mark.parametrize("route, n, d, kept", [
    ("sample", 4, 600, [(4, 4), (4, 4)]),
    ("feature", 600, 600, [(600, 600), (0, 0)]),
    ("feature", 599, 600, [(0, 0), (0, 0)]),
])  # fmt: skip
def test_nothing_larger_than_an_input_is_kept(impl, route, n, d, kept):
    a, b = torch.randn(2, n, d)
    _, _, _, *products = forward_op(a, b, False, "centered", [], impl, route)
    assert [x.shape for x in products] == kept


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"] + ["cpu"] * HAS_EXTENSION)
@pytest.mark.parametrize("n, d", [(40, 8), (8, 40)])
def test_compile_without_graph_breaks(impl, n, d):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(a, b):
        norm, diagonal = offdiagonal_norm(a.tanh(), b, columns="standardized", impl=impl)
        return norm + (diagonal - 1).square().sum()

    leaves = [torch.randn(n, d), torch.randn(n, d)]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outcomes = []
    for f in (function, compiled):
        inputs = [x.clone().requires_grad_() for x in leaves]
        loss = f(*inputs)
        loss.backward()
        outcomes.append([loss.detach(), *[x.grad for x in inputs]])
    torch.testing.assert_close(*outcomes)
    longer = [torch.randn(n + 10, d) for _ in range(2)]  # a second shape
    torch.testing.assert_close(compiled(*longer), function(*longer))


@each_route
def test_functional_transforms(route):
    a, b = torch.randn(9, 7), torch.randn(9, 7)

    def loss(a, b, impl="auto", route=route):
        norm, diagonal = offdiagonal_norm(a, b, columns="centered", impl=impl, route=route)
        return norm + diagonal.sum()

    def exact(a, b):
        return loss(a, b, impl="reference", route="auto")

    gradient, expected = (torch.func.grad(f, argnums=(0, 1))(a, b) for f in (loss, exact))
    for found, wanted in zip(gradient, expected, strict=True):
        assert (found - wanted).norm() <= 1e-6 * wanted.norm()
    value, pullback = torch.func.vjp(loss, a, b)
    torch.testing.assert_close(value, loss(a, b))
    torch.testing.assert_close(pullback(torch.tensor(2.0))[0], 2 * gradient[0])


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n, d", [(60, 16), (16, 60)])
def test_autocast_changes_nothing(impl, dtype, n, d):
    x, y = torch.randn(n, d).to(dtype), torch.randn(n, d).to(dtype)

    def run(autocast):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            norm, diagonal = offdiagonal_norm(a, b, columns="standardized", impl=impl)
        assert norm.dtype == diagonal.dtype == torch.float32
        return norm, diagonal, *torch.autograd.grad(norm + diagonal.sum(), (a, b))

    for inside, outside in zip(run(True), run(False), strict=True):
        assert torch.equal(inside, outside)


@each_route
def test_second_derivative_is_refused_not_wrong(route):
    a = torch.randn(5, 6, requires_grad=True)
    norm, _ = offdiagonal_norm(a, route=route)
    (gradient,) = torch.autograd.grad(norm, a, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
