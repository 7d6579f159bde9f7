"""The operator under torch's transformations."""

import pytest
import torch

from sslkernels import pairwise_logsumexp
from sslkernels._ext import HAS_EXTENSION

forward_op = torch.ops.sslkernels.pairwise_logsumexp
backward_op = torch.ops.sslkernels.pairwise_logsumexp_backward


@pytest.mark.parametrize("impl", ["tiled", "reference"])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradcheck(impl, columns, symmetric):
    q = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    k = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(-1.3, dtype=torch.float64, requires_grad=True)

    def function(q, k, scale):
        return pairwise_logsumexp(
            q, q if symmetric else k, scale, exclude=(0, 2, -2), columns=columns, impl=impl
        )

    leaves = (q, k.detach() if symmetric else k, scale)
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_opcheck(impl, symmetric, columns):
    q, k, scale = torch.randn(6, 4), torch.randn(5, 4), torch.tensor(2.0)
    k = None if symmetric else k
    columns = columns and not symmetric
    arguments = (q, k, scale, [0], columns, impl)
    torch.library.opcheck(forward_op, arguments)
    row, column = forward_op(*arguments)
    column = column if columns else None
    for needs in ([True, True, True], [False, True, False], [True, False, False]):
        if symmetric and not needs[0]:
            continue
        torch.library.opcheck(
            backward_op,
            (q, k, scale, [0], row, torch.randn(6), column,
             torch.randn(5) if columns else None, needs, impl),
        )  # fmt: skip


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"] + ["cpu"] * HAS_EXTENSION)
@pytest.mark.parametrize("symmetric", [False, True])
def test_compile_without_graph_breaks(symmetric, impl):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(q, k, scale):
        z = torch.nn.functional.normalize(q, dim=1)
        rows, columns = pairwise_logsumexp(
            z, z if symmetric else k, scale, exclude=(0,), columns=True, impl=impl
        )
        return rows.sum() + columns.square().sum()

    leaves = [torch.randn(40, 8), torch.randn(30, 8), torch.tensor(3.0)]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outcomes = []
    for f in (function, compiled):
        inputs = [x.clone().requires_grad_() for x in leaves]
        loss = f(*inputs)
        loss.backward()
        outcomes.append([loss.detach(), *[x.grad for x in inputs if x.grad is not None]])
    torch.testing.assert_close(*outcomes)
    longer = torch.randn(50, 8)  # a second shape
    torch.testing.assert_close(compiled(longer, *leaves[1:]), function(longer, *leaves[1:]))


def test_functional_transforms():
    q, k = torch.randn(9, 4), torch.randn(8, 4)

    def loss(q, k, impl="auto"):
        return pairwise_logsumexp(q, k, 1.5, exclude=(0,), impl=impl).sum()

    gradient = torch.func.grad(loss, argnums=(0, 1))
    torch.testing.assert_close(gradient(q, k), gradient(q, k, impl="reference"))
    value, pullback = torch.func.vjp(loss, q, k)
    torch.testing.assert_close(value, loss(q, k))
    torch.testing.assert_close(pullback(torch.tensor(2.0))[0], 2 * gradient(q, k)[0])


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(impl, dtype):
    q, k = torch.randn(60, 16).to(dtype), torch.randn(50, 16).to(dtype)

    def run(autocast):
        a, b = q.clone().requires_grad_(), k.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            rows, columns = pairwise_logsumexp(a, b, 0.5, columns=True, impl=impl)
            loss = rows.sum() + columns.sum()
        assert rows.dtype == columns.dtype == torch.float32
        return rows, columns, *torch.autograd.grad(loss, (a, b))

    for inside, outside in zip(run(True), run(False), strict=True):
        assert torch.equal(inside, outside)


def test_second_derivative_is_refused_not_wrong():
    q = torch.randn(5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        pairwise_logsumexp(q, q, exclude=(0,)).sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
