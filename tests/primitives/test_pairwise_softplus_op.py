"""The operator under torch's transformations."""

import itertools

import pytest
import torch

from sslkernels import pairwise_softplus
from sslkernels._ext import HAS_EXTENSION

forward_op = torch.ops.sslkernels.pairwise_softplus
backward_op = torch.ops.sslkernels.pairwise_softplus_backward


@pytest.mark.parametrize("impl", ["tiled", "reference"])
@pytest.mark.parametrize("scale, bias", [(-1.3, 0.4), (2.0, -4.0)])
def test_gradcheck(impl, scale, bias):
    leaves = [torch.randn(7, 3), torch.randn(5, 3), torch.tensor(scale), torch.tensor(bias)]
    leaves = [x.double().requires_grad_() for x in leaves]

    def function(*leaves):
        return pairwise_softplus(*leaves, exclude=(0, 2, -2), impl=impl)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)
def test_opcheck(impl):
    arguments = (
        torch.randn(6, 4), torch.randn(5, 4), torch.tensor(2.0),
        torch.tensor(-1.0, dtype=torch.float64), [0],
    )  # fmt: skip
    torch.library.opcheck(forward_op, (*arguments, impl))
    for needs in itertools.product([True, False], repeat=4):
        torch.library.opcheck(backward_op, (*arguments, torch.randn(6), list(needs), impl))


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"] + ["cpu"] * HAS_EXTENSION)
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(q, k, scale, bias):
        z = torch.nn.functional.normalize(q, dim=1)
        return pairwise_softplus(z, k, scale.exp(), bias, exclude=(0,), impl=impl).square().sum()

    leaves = [torch.randn(40, 8), torch.randn(30, 8), torch.tensor(1.0), torch.tensor(-3.0)]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outcomes = []
    for f in (function, compiled):
        inputs = [x.clone().requires_grad_() for x in leaves]
        loss = f(*inputs)
        loss.backward()
        outcomes.append([loss.detach(), *[x.grad for x in inputs]])
    torch.testing.assert_close(*outcomes)
    longer = torch.randn(50, 8)  # a second shape
    torch.testing.assert_close(compiled(longer, *leaves[1:]), function(longer, *leaves[1:]))


def test_functional_transforms():
    q, k = torch.randn(9, 4), torch.randn(8, 4)

    def loss(q, k, impl="auto"):
        return pairwise_softplus(q, k, 1.5, -1.0, exclude=(0,), impl=impl).sum()

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
            rows = pairwise_softplus(a, b, 0.5, -1.0, impl=impl)
        assert rows.dtype == torch.float32
        return rows, *torch.autograd.grad(rows.sum(), (a, b))

    for inside, outside in zip(run(True), run(False), strict=True):
        assert torch.equal(inside, outside)


def test_second_derivative_is_refused_not_wrong():
    q = torch.randn(5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(pairwise_softplus(q, q).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
