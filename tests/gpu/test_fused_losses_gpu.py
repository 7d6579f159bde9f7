"""The losses that are one operator with ``impl="triton"``, on a device."""

import pytest
import torch
from contrastive_problems import PROBLEMS, check
from covariance_problems import LOSSES
from covariance_problems import check as check_covariance
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products

from sslkernels.primitives.contrastive import contrastive_loss

pytestmark = pytest.mark.gpu
each_problem = pytest.mark.parametrize("name", PROBLEMS)


@each_problem
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("n, d", [(67, 33), (515, 128), (300, 512)])
@pytest.mark.parametrize("scale", [5.0, 90.0])
def test_contrastive_as_exact_as_eager(name, n, d, dtype, scale):
    m = n + 131 if name == "queue" else n
    with float32_products("tf32"):
        check(name, n=n, m=m, d=d, scale=scale, dtype=dtype, draws=8, impl="triton", device="cuda")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("n, d", [(67, 33), (300, 129), (256, 2048), (65, 700)])
def test_covariances_as_exact_as_torch(name, n, d, dtype):
    check_covariance(name, n, d, dtype, impl="triton", device="cuda")


def step_of(name, n=300, d=64, dtype=torch.bfloat16):
    kind, problem = PROBLEMS[name]
    count = {"": 1, "queue and positive": 3}.get(kind, 2)
    inputs = [torch.randn(n, d, device="cuda", dtype=dtype).requires_grad_() for _ in range(count)]
    scale = torch.tensor(7.0, device="cuda", requires_grad=True)
    p = problem(*inputs, scale=scale)

    def step():
        loss = contrastive_loss(p, impl="triton")
        return [loss, *torch.autograd.grad(loss, [*inputs, scale])]

    return step


@each_problem
def test_waits_for_nothing_and_repeats(name):
    step = step_of(name)
    assert_no_wait(step)
    assert_repeats(step)
    assert_repeats_as_graph(step)


@pytest.mark.parametrize("name", LOSSES)
def test_covariances_wait_for_nothing_and_repeat(name):
    x = [torch.randn(300, 129, device="cuda", requires_grad=True) for _ in range(2)]

    def step():
        loss = LOSSES[name](*x, impl="triton")
        return [loss, *torch.autograd.grad(loss, x)]

    assert_no_wait(step)
    assert_repeats(step)
    assert_repeats_as_graph(step)


@pytest.mark.parametrize("name", ["two views", "both ways", "sigmoid", "labels"])
def test_compiles(name):
    torch.compiler.reset()
    kind, problem = PROBLEMS[name]
    for n in (96, 128, 160):
        x = [torch.randn(n, 32, device="cuda", requires_grad=True) for _ in range(1 + bool(kind))]

        def loss(*x):
            return contrastive_loss(problem(*x, scale=3.0), impl="triton")

        with float32_products("tf32"):
            values = [f(*x) for f in (torch.compile(loss, fullgraph=True, dynamic=True), loss)]
            torch.testing.assert_close(*values)
            for a, b in zip(*(torch.autograd.grad(v, x) for v in values), strict=True):
                torch.testing.assert_close(a, b)
