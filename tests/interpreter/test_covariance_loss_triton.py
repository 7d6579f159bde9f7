"""Values of the fused losses of covariances, run by the interpreter, in float32."""

import pytest
import torch
from covariance_problems import LOSSES, check

from sslkernels.primitives.covariance_loss import triton

each_loss = pytest.mark.parametrize("name", LOSSES)


@each_loss
@pytest.mark.parametrize("n, d", [(3, 2), (10, 50), (70, 40), (40, 70)])
def test_as_exact_as_torch(name, n, d):
    check(name, n, d, impl="triton")


@each_loss
@pytest.mark.parametrize("constant", [(0,), (1,)])
@pytest.mark.parametrize("n, d", [(40, 20), (20, 40)])
def test_only_the_wanted_gradient(name, n, d, constant):
    check(name, n, d, draws=2, constant=constant, impl="triton")


@each_loss
def test_columns_that_do_not_vary(name):
    a, b = torch.randn(20, 6), torch.randn(20, 6)
    a[:, 2], b[:, 4] = 3.0, 0.0
    values = []
    for impl in ("triton", "tiled"):
        x, y = (z.clone().requires_grad_() for z in (a, b))
        loss = LOSSES[name](x, y, impl=impl)
        values.append([loss, *torch.autograd.grad(loss, (x, y))])
    for ours, theirs in zip(*values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, equal_nan=True)


@each_loss
@pytest.mark.parametrize("n, d", [(40, 20), (20, 40)])
def test_any_layout_nan_and_the_same_bits(name, n, d):
    x, y = torch.randn(d, n).T, torch.randn(n, 2 * d)[:, ::2]
    first, second = (LOSSES[name](x, y, impl="triton") for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, LOSSES[name](x.contiguous(), y, impl="tiled"))
    y = y.clone()
    y[3, 1] = float("nan")
    assert LOSSES[name](x, y, impl="triton").isnan()


@each_loss
def test_autocast_changes_nothing(name):
    a, b = torch.randn(40, 20), torch.randn(40, 20)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = LOSSES[name](a, b, impl="triton")
    assert torch.equal(lowered, LOSSES[name](a, b, impl="triton"))


def test_what_is_left_to_other_operators(monkeypatch):
    monkeypatch.setattr(triton, "covariance_loss", None)
    for x in (torch.randn(4, 2).half(), torch.randn(triton.MOST_ROWS + 1, 2)):
        for name in LOSSES:
            assert LOSSES[name](x, x, impl="triton").isfinite()
