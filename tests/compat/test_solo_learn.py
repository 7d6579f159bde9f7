"""``sslkernels.compat.solo_learn`` against formulas: solo-learn is not on the package index."""

import formulas
import pytest
import torch
import torch.nn.functional as F
from distillation_formulas import cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_steps
from test_dino import K, WrittenDINOLoss

from sslkernels.compat import solo_learn as ours

quick = settings(max_examples=15, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
temperatures = st.floats(0.05, 1)
weights = st.floats(0, 30)


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def unit(x):
    return F.normalize(x.detach(), dim=1)


@st.composite
def pairs(draw, smallest=2):
    torch.manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.integers(smallest, 16)), draw(st.integers(2, 9))
    return randn(*shape), randn(*shape)


@dtypes
@quick
@given(pairs(), temperatures, st.integers(2, 4))
def test_contrastive(dtype, inputs, temperature, views):
    z = torch.cat([x.detach() for x in (inputs * 2)[:views]]) + 0.3
    z = (z + torch.randn_like(z)).requires_grad_()
    indexes = torch.arange(len(z)) % (len(z) // views)
    assert_same_steps(
        lambda z: ours.simclr_loss_func(z, indexes, temperature),
        lambda z: formulas.supcon_solo(z[:, None], indexes, temperature), [(z,)], dtype,
    )  # fmt: skip
    first, second = inputs
    steps = [inputs, (first.detach(), second), (first, second.detach())]
    for function, factor in ((ours.mocov3_loss_func, 2 * temperature), (ours.nnclr_loss_func, 1)):
        assert_same_steps(
            lambda a, b, f=function: f(a, b, temperature),
            lambda a, b, x=factor: x * formulas.info_nce(a, b, temperature), steps, dtype,
        )  # fmt: skip


@dtypes
@quick
@given(pairs(), temperatures, temperatures)
def test_queues(dtype, inputs, temperature, other):
    query, key = (unit(x).requires_grad_() for x in inputs)
    queue = unit(torch.randn(25, query.shape[1], dtype=torch.float64))

    def moco(q, k, queue):
        scores = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], 1) / temperature
        return F.cross_entropy(scores, torch.zeros(len(q), dtype=torch.long))

    def ressl(q, k, queue):
        target = torch.softmax(k.detach() @ queue.T / other, 1)
        return -(target * F.log_softmax(q @ queue.T / temperature, 1)).sum(1).mean()

    # MoCo's queue is (D, K), ReSSL's (K, D)
    calls = (
        (lambda *x: ours.mocov2plus_loss_func(*x, temperature), moco, queue.T),
        (lambda *x: ours.ressl_loss_func(*x, temperature, other), ressl, queue),
    )
    for function, formula, own in calls:
        assert_same_steps(function, formula, [(query, key, own)], dtype)


@dtypes
@quick
@given(pairs(), weights, weights, weights)
def test_covariance(dtype, inputs, first, second, third):
    def barlow(a, b):
        return second * formulas.barlow_twins(a, b, first)

    def vicreg(a, b):
        covariances = sum(
            formulas.offdiagonal(formulas.covariance(z)).square().sum() for z in (a, b)
        )
        return (first * F.mse_loss(a, b) + second * formulas.hinges(a, b)
                + third * covariances / a.shape[1])  # fmt: skip

    calls = {
        "barlow": (barlow, (first, second)),
        "vicreg": (vicreg, (first, second, third)),
    }
    for name, (formula, arguments) in calls.items():
        function = getattr(ours, f"{name}_loss_func")
        assert_same_steps(
            lambda a, b, f=function, x=arguments: f(a, b, *x), formula, [inputs], dtype
        )
    assert_same_steps(ours.vibcreg_loss_func, formulas.vibcreg, [inputs], dtype)


@dtypes
@quick
@given(pairs(1), st.booleans())
def test_pairs(dtype, inputs, simplified):
    def cosine(p, z):
        return (F.normalize(p, dim=1) * F.normalize(z, dim=1)).sum(1).mean()

    for function, formula in (
        (ours.byol_loss_func, lambda p, z: 2 - 2 * cosine(p, z.detach())),
        (ours.simsiam_loss_func, lambda p, z: -cosine(p, z.detach())),
        (ours.wmse_loss_func,
         lambda p, z: 2 - 2 * cosine(p, z.detach() if simplified else z)),
    ):  # fmt: skip
        assert_same_steps(lambda p, z, f=function: f(p, z, simplified), formula, [inputs], dtype)


@dtypes
@quick
@given(st.integers(2, 4), st.integers(1, 6), temperatures)
def test_swav(dtype, views, rows, temperature):
    preds = [randn(rows, K) for _ in range(views)]
    assignments = [torch.softmax(3 * randn(rows, K, grad=False), 1) for _ in range(views)]

    def written(preds, assignments):
        losses = [
            cross_entropy(assignments[i], F.log_softmax(preds[j] / temperature, 1)).mean()
            for i in range(views)
            for j in range(views)
            if i != j
        ]
        return sum(losses) / len(losses)

    step = [(preds, assignments)]
    assert_same_steps(lambda *x: ours.swav_loss_func(*x, temperature), written, step, dtype)
    with pytest.raises(ValueError, match="got 1 and 1"):
        ours.swav_loss_func(preds[:1], assignments[:1])


@dtypes
@quick
@given(st.integers(2, 4), temperatures, temperatures, st.booleans())
def test_dino(dtype, crops, first, last, training):
    pair = (
        ours.DINOLoss(K, first, last, 2, 4, num_large_crops=crops).train(training),
        WrittenDINOLoss(crops, [first, last, last, last], 0.1, 0.9),
    )

    def at_epoch(loss):
        def call(student, teacher, epoch):
            if isinstance(loss, WrittenDINOLoss):
                return loss(student, teacher, epoch)
            loss.epoch = epoch
            return loss(student, teacher)

        return call

    steps = [(randn(crops * 3, K), randn(6, K, grad=False), epoch) for epoch in range(4)]
    for loss, kind in zip(pair, (dtype, torch.float64), strict=True):
        loss.to(kind)
    assert_same_steps(*(at_epoch(x) for x in pair), steps, dtype)
    assert list(pair[0].state_dict()) == ["center"]
