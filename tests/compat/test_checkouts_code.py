"""solo-learn, dinov2 and DINO against the code of their checkouts, if available."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from checkouts import originals
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_signature, assert_same_state, assert_same_steps

from sslkernels.compat import dino, dinov2, solo_learn

pytestmark = pytest.mark.filterwarnings("ignore:.*autocast")
quick = settings(max_examples=10, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
temperatures = st.floats(0.05, 1)
weights = st.floats(0, 30)
K = 12


@pytest.fixture(scope="module")
def solo():
    return originals(solo_learn)


@pytest.fixture(scope="module")
def of_dinov2():
    return originals(dinov2)


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def unit(*shape, grad=True):
    return F.normalize(randn(*shape, grad=False), dim=1).requires_grad_(grad)


def plan(*shape):
    return torch.softmax(3 * randn(*shape, grad=False), -1)


@st.composite
def pairs(draw, smallest=2):
    torch.manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.integers(smallest, 16)), draw(st.integers(2, 9))
    return randn(*shape), randn(*shape)


@contextmanager
def float64_by_default():
    """solo-learn's Barlow Twins creates a BatchNorm of the default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def of_both(solo, name, *arguments, **named):
    """Ours and solo-learn's function, with further arguments."""

    def theirs(*x):
        with float64_by_default():
            return solo[f"{name}_loss_func"](*x, *arguments, **named)

    return [lambda *x: vars(solo_learn)[f"{name}_loss_func"](*x, *arguments, **named), theirs]


PEERS = [solo_learn, dinov2, dino]


@pytest.mark.parametrize("ours", PEERS, ids=lambda x: x.__name__.rpartition(".")[2])
def test_same_signatures(ours):
    for name, theirs in originals(ours).items():
        assert_same_signature(getattr(ours, name), theirs)


@dtypes
@quick
@given(data=st.data())
def test_solo_pairs(solo, dtype, data):
    inputs = data.draw(pairs())
    temperature, (a, b, c) = data.draw(temperatures), [data.draw(weights) for _ in range(3)]
    calls = {
        "barlow": (a, b), "byol": (True,), "mocov3": (temperature,), "nnclr": (temperature,),
        "simsiam": (True,), "vibcreg": (a, b, c), "vicreg": (a, b, c), "wmse": (True,),
    }  # fmt: skip
    one_sided = [(inputs[0].detach(), inputs[1]), (inputs[0], inputs[1].detach())]
    for name, arguments in calls.items():
        steps = one_sided if name in ("mocov3", "nnclr", "barlow", "vicreg", "vibcreg") else []
        assert_same_steps(*of_both(solo, name, *arguments), [inputs, *steps], dtype)
    wide = randn(4, 3, 5), randn(4, 3, 5)
    for name in ("byol", "simsiam", "wmse"):
        for simplified in (True, False):
            pair = of_both(solo, name, simplified=simplified)
            assert_same_steps(*pair, [inputs, wide], dtype)


@dtypes
@quick
@given(st.integers(2, 9), st.integers(1, 12), temperatures, temperatures, st.booleans())
def test_solo_queues(solo, dtype, width, size, temperature, other, grad):
    """Includes as many rows as features, where a transposed queue would go unnoticed."""
    for count in (size, width):
        step = [unit(5, width), unit(5, width), unit(count, width, grad=grad)]
        assert_same_steps(*of_both(solo, "ressl", temperature, other), [step], dtype)
        pair = of_both(solo, "mocov2plus", temperature=temperature)
        assert_same_steps(*(lambda q, k, x, f=f: f(q, k, x.T) for f in pair), [step], dtype)


def test_solo_queue_by_value():
    torch.manual_seed(0)
    q, k, queue = (F.normalize(torch.randn(x, 64), dim=1) for x in (32, 32, 500))
    found = solo_learn.ressl_loss_func(q, k, queue)
    target = torch.softmax(k @ queue.T / 0.04, 1)
    expected = -(target * torch.log_softmax(q @ queue.T / 0.1, 1)).sum(1).mean()
    torch.testing.assert_close(found, expected)


@dtypes
@quick
@given(st.integers(1, 5), st.integers(2, 4), temperatures)
def test_solo_classes(solo, dtype, count, views, temperature):
    z = randn(count * views, 6)
    for kind in (torch.int64, torch.int32, torch.float32, torch.float64):
        indexes = torch.arange(len(z)).remainder(count).to(kind)
        pair = of_both(solo, "simclr", indexes=indexes, temperature=temperature)
        if count > 1:
            assert_same_steps(*pair, [(z,)], dtype)
    preds = [randn(count, K) for _ in range(views)]
    for teachers in (1, views):
        step = [preds, [plan(count, K) for _ in range(teachers)]]
        assert_same_steps(*of_both(solo, "swav", temperature), [step], dtype)


@dtypes
@pytest.mark.parametrize("crops", [2, 4])
def test_solo_dino(solo, dtype, crops):
    pair = [x["DINOLoss"](K, 0.04, 0.07, 3, 6, num_large_crops=crops) for x in
            (vars(solo_learn), solo)]  # fmt: skip

    def at_epoch(loss):
        def call(student, teacher, epoch):
            loss.epoch = epoch
            return loss(student, teacher)

        return call

    pair = [x.to(y) for x, y in zip(pair, (dtype, torch.float64), strict=True)]
    steps = [(randn(crops * 3, K), randn(6, K, grad=False), epoch) for epoch in range(6)]
    assert_same_steps(*map(at_epoch, pair), steps, dtype)
    assert_same_state(*pair, 1e-5)


def test_solo_mixed_precision(solo):
    z = [randn(6, 5), randn(6, 5)]
    for name in ("vicreg", "vibcreg", "byol", "simsiam", "wmse"):
        for kinds in ((torch.float32, torch.float16), (torch.float16, torch.float32)):
            x = [y.detach().to(kind) for y, kind in zip(z, kinds, strict=True)]
            found, expected = (p[f"{name}_loss_func"](*x) for p in (vars(solo_learn), solo))
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3, check_dtype=False)


@dtypes
@quick
@given(st.integers(1, 4), st.integers(1, 3), temperatures, st.integers(0, 4))
def test_dinov2_class_tokens(of_dinov2, dtype, students, teachers, temperature, iterations):
    pair = [x["DINOLoss"](K, temperature) for x in (vars(dinov2), of_dinov2)]
    step = [randn(5, K) for _ in range(students)], [plan(5, K) for _ in range(teachers)]
    assert_same_steps(*pair, [step], dtype)
    logits = 0.3 * randn(6, K, grad=False).float()
    plans = [x.sinkhorn_knopp_teacher(logits, 0.2, iterations) for x in pair]
    torch.testing.assert_close(*plans, rtol=1e-4, atol=1e-5)
    assert_same_centres(pair, (6, K))


def assert_same_centres(pair, shape):
    pair = [x.double() for x in pair]
    for _ in range(3):
        logits = randn(*shape, grad=False)
        torch.testing.assert_close(*(x.softmax_center_teacher(logits, 0.1) for x in pair))
        for loss in pair:
            loss.update_center(logits)
    for loss in pair:
        loss.apply_center_update()
    assert_same_state(*pair)


@dtypes
@quick
@given(st.integers(1, 4), st.integers(1, 5), temperatures, st.floats(0, 1))
def test_dinov2_patches(of_dinov2, dtype, images, patches, temperature, share):
    """There may be no masked patch."""
    pair = [x["iBOTPatchLoss"](K, temperature) for x in (vars(dinov2), of_dinov2)]
    mask = torch.rand(images, patches) < share
    student, teacher = randn(images, patches, K), plan(images, patches, K)
    assert_same_steps(*pair, [(student, teacher, mask)], dtype)
    count = int(mask.sum())
    s, t = (F.pad(x.detach()[mask], (0, 0, 0, 2)) for x in (student, teacher))
    step = [s.requires_grad_(), t, mask, count, torch.rand(count, dtype=torch.float64)]
    calls = [x.forward_masked for x in pair]
    assert_same_steps(*calls, [step, [s, t, mask, count, None]][: 2 if count else 1], dtype)
    assert_same_centres(pair, (1, 6, K))


@dtypes
@pytest.mark.parametrize("eps", [1e-8, 1e-3, 0.5])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_dinov2_koleo(of_dinov2, dtype, count, eps):
    pair = [x["KoLeoLoss"]() for x in (vars(dinov2), of_dinov2)]
    assert_same_steps(*(lambda x, f=f: f(x, eps) for f in pair), [(randn(count, 5),)], dtype)
    opposites = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(*(f(opposites, eps) for f in pair))


def on_a_rank(rank):
    """Values and gradients of ours and theirs, on ranks with different numbers of rows."""
    found, expected = [], []
    torch.manual_seed(rank)
    step = [randn(5, 6), randn(5, 6)]
    indexes = torch.arange(10) % 5 + 5 * rank
    for results, module in ((found, vars(solo_learn)), (expected, originals(solo_learn))):
        for name in ("barlow", "mocov3", "nnclr", "vicreg", "vibcreg"):
            with float64_by_default():
                value = module[f"{name}_loss_func"](*step)
            leaves = torch.autograd.grad(value, step, allow_unused=True)
            results += [value.detach(), *(x for x in leaves if x is not None and x.any())]
        z = torch.cat(step)
        value = module["simclr_loss_func"](z, indexes)
        results += [value.detach(), *torch.autograd.grad(value, step)]
    return found, expected


@pytest.mark.parametrize("gang", [2], indirect=True)
def test_solo_on_ranks(gang, solo):
    for found, expected in gang.run(on_a_rank):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def centres_on_a_rank(rank, counts):
    """Centres of dinov2's and DINO's losses, theirs with their own code, after three steps."""
    results = []
    for modules in ((vars(dinov2), vars(dino)), (originals(dinov2), originals(dino))):
        torch.manual_seed(rank)
        patches, tokens = modules[0]["iBOTPatchLoss"](K).double(), modules[0]["DINOLoss"](K)
        script = modules[1]["DINOLoss"](K, 4, 0.04, 0.07, 3, 6).double()
        found = []
        for _ in range(3):
            logits = randn(1, counts[rank], K, grad=False) + rank
            student = randn(counts[rank], K)
            targets = patches.softmax_center_teacher(logits, 0.04)[0]
            mask = torch.arange(40).view(1, -1) < counts[rank]
            found += [patches.forward_masked(student, targets, mask).detach()]
            patches.update_center(logits)
            found += [tokens.double().softmax_center_teacher(logits[0, :4], 0.1)]
            tokens.update_center(logits[0, :4])
            found += [script(randn(16, K), logits[0, :8], 1).detach()]
        patches.apply_center_update()
        script.state_dict()
        found += [patches.center, script.center]
        results.append(found)
    return results


@pytest.mark.parametrize("gang", [2], indirect=True)
def test_centres_on_ranks(gang, of_dinov2):
    """With different numbers of masked patches on the ranks."""
    originals(dino)
    for found, expected in gang.run(centres_on_a_rank, (10, 30)):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
