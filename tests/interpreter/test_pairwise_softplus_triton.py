"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong.)
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from covering import covering
from oracle import check_pairwise_softplus

from sslkernels import pairwise_softplus
from sslkernels.primitives._triton import fuses


@pytest.mark.parametrize("route, logits, shape", covering(
    ["fused", "by products"],
    [(10.0, -10.0), (1.0, 0.0), (100.0, 5.0), (-5.0, -2.0)],
    [(140, 80, (0,)), (70, 140, (0, 7, -3)), (140, 70, ())],
), indirect=["route"], ids=str)  # fmt: skip
def test_float32(route, logits, shape):
    n, m, exclude = shape
    check_pairwise_softplus("triton", n, m, 33, *logits, exclude, draws=6)


@pytest.mark.parametrize("scale, bias", [(10.0, -10.0), (1.0, 0.0), (100.0, 0.0)])
def test_float16(scale, bias):
    check_pairwise_softplus("triton", 140, 80, 20, scale, bias, (0,), dtype=torch.float16, draws=6)


@pytest.mark.parametrize("d", [1, 16, 100, 129, 300])
def test_depths(route, d):
    check_pairwise_softplus("triton", 40, 30, d, 2.0, -3.0, draws=1, floor=1e-6)


@pytest.mark.parametrize("n, m", [(1, 1), (1, 200), (200, 1), (128, 64)])
def test_edges(route, n, m):
    check_pairwise_softplus("triton", n, m, 8, 2.0, -3.0, draws=4, floor=1e-6)


def test_many_diagonals_take_the_other_route():
    q = torch.randn(40, 8, dtype=torch.float16)
    exclude = (0, 1, 2, 3, 4)
    assert not fuses(q, exclude)
    check_pairwise_softplus("triton", 40, 50, 8, 2.0, -1.0, exclude, dtype=torch.float16, draws=2)


def test_softplus_and_sigmoid_keep_their_relative_accuracy(route):
    logits = torch.cat([torch.linspace(-86.9, 90.0, 1_000), -torch.logspace(-8, 1.9, 400)])
    q = logits[:, None].clone().requires_grad_()
    rows = pairwise_softplus(q, torch.ones(1, 1), impl="triton")
    (sigma,) = torch.autograd.grad(rows.sum(), q)
    # the interpreter rounds the product of a fused multiply-add, on which the exponential relies
    allowed = torch.finfo(torch.float32).eps * (3 + logits.abs())
    for ours, exact in (
        (rows, F.softplus(logits.double(), threshold=40.0)),
        (sigma[:, 0], torch.sigmoid(logits.double())),
    ):
        assert (((ours - exact) / exact).abs() <= allowed).all()


@pytest.mark.parametrize("logit", [-1e30, -150.0, 150.0, 1e30, float("inf")])
def test_far_logits_neither_overflow_nor_turn_nan(route, logit):
    rows = pairwise_softplus(torch.ones(5, 1), torch.ones(200, 1), 0.0, logit, impl="triton")
    torch.testing.assert_close(rows, torch.full((5,), 200 * max(logit, 0.0)))


def test_nothing_left_and_nan(route):
    q, k = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    rows = pairwise_softplus(q, k, 2.0, -1.0, exclude=(0, 1, -1), impl="triton")
    assert rows[:2].tolist() == [0.0, 0.0]
    logit = 2 * q[2] @ k[0] - 1
    torch.testing.assert_close(rows[2], F.softplus(logit))
    dq, dk = torch.autograd.grad(rows.sum(), (q, k))
    expected = torch.zeros(3, 4)
    expected[2] = 2 * torch.sigmoid(logit) * k[0]
    torch.testing.assert_close(dq, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(dk[1], torch.zeros(4))

    bad = torch.randn(40, 4)
    bad[20, 1] = float("nan")
    good = torch.randn(30, 4)
    rows = pairwise_softplus(bad, good, impl="triton")
    assert rows.isnan().nonzero().flatten().tolist() == [20]
    assert pairwise_softplus(good, bad, impl="triton").isnan().all()
    assert pairwise_softplus(good, good, bias=float("nan"), impl="triton").isnan().all()


def test_only_the_gradients_asked_for(route):
    base = [torch.randn(30, 9), torch.randn(20, 9), torch.tensor(0.8), torch.tensor(-1.0)]

    def gradients(wanted):
        leaves = [x.clone().requires_grad_(want) for x, want in zip(base, wanted, strict=True)]
        pairwise_softplus(*leaves, impl="triton").square().sum().backward()
        return [leaf.grad for leaf in leaves]

    everything = gradients((True, True, True, True))
    for wanted in itertools.product((True, False), repeat=4):
        if any(wanted):
            for got, want, full in zip(gradients(wanted), wanted, everything, strict=True):
                torch.testing.assert_close(got, full if want else None)


def test_bitwise_repeatable(route):
    q, k = torch.randn(200, 8, requires_grad=True), torch.randn(150, 8, requires_grad=True)

    def run():
        rows = pairwise_softplus(q, k, 0.3, -2.0, exclude=(0,), impl="triton")
        return rows, *torch.autograd.grad(rows.sum(), (q, k))

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)
