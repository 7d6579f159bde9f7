"""The additions of ``sslkernels.compat.lightly`` to this package's losses, without lightly.

``tests/losses`` covers values and gradients of the inherited losses.
"""

import distillation_formulas
import formulas
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_steps

from sslkernels import losses
from sslkernels.compat import lightly
from sslkernels.compat.lightly.version import IS_BEFORE_1_6

quick = settings(max_examples=15, deadline=None, derandomize=True)


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@quick
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6), st.floats(0.1, 1), st.booleans())
def test_memory_bank(dtype, batches, temperature, training):
    """The part of a batch beyond the bank's end is dropped; the next batch starts at the front."""
    torch.manual_seed(0)
    loss = lightly.NTXentLoss(temperature, (10, 4)).to(dtype).train(training)
    bank = loss.memory_bank.bank.double().clone()
    place = 0
    for count in batches:
        query, key = randn(count, 4), randn(count, 4)
        expected = formulas.moco(query, key, bank, temperature)
        found = loss(query.to(dtype), key.to(dtype))
        assert_close = torch.testing.assert_close
        assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        new = F.normalize(key.detach(), dim=1)[: 10 - place]
        bank[place : place + len(new)] = new
        place = (place + len(new)) % 10
        assert_close(loss.memory_bank.bank.double(), bank, rtol=1e-5, atol=1e-5)
    before = loss.memory_bank.bank.clone()
    loss(randn(3, 4, grad=False).to(dtype), randn(3, 4).to(dtype))
    assert torch.equal(loss.memory_bank.bank, before)  # no gradient, so not enqueued
    assert loss.state_dict() == {}


def test_weights_of_each_direction():
    def weigh(a, b):
        return 1 + (a[:, 0] - 2 * b[:, 0]).sigmoid()

    x = [randn(9, 5), randn(9, 5)]
    ours = lightly.DCLLoss(0.2, weigh)
    assert_same_steps(ours, lambda a, b: formulas.dcl(a, b, 0.2, weigh), [x])
    assert_same_steps(lightly.DCLWLoss(0.2), lambda a, b: formulas.dclw(a, b, 0.2), [x])


@quick
@given(st.integers(1, 3), st.floats(0, 2), st.floats(0.1, 2))
def test_masked_siamese(views, weight, exponent):
    step = randn(views * 4, 6), randn(4, 6, grad=False), randn(9, 6)

    def written(anchors, targets, prototypes, divergence):
        plain = distillation_formulas.msn(anchors, targets, prototypes)
        anchors, prototypes = formulas.unit(anchors), formulas.unit(prototypes)
        mean = torch.softmax(anchors @ prototypes.T / 0.1, 1).mean(0)
        uniform = (mean * mean.log()).sum() + torch.tensor(9.0).log()
        return plain + weight * divergence(mean) - uniform  # the formula's weight is 1

    def entropy(mean):
        return (mean * mean.log()).sum() + torch.tensor(9.0).log()

    def to_power_law(mean):
        prior = torch.arange(1, 10, dtype=torch.float64) ** -exponent
        prior = prior / prior.sum()
        return (prior * (prior / mean).log()).sum()

    options = {"regularization_weight": weight}
    prior = torch.full((9,), 1 / 9, dtype=torch.float64)
    for ours, divergence in (
        (lightly.MSNLoss(**options), entropy),
        (lightly.PMSNLoss(power_law_exponent=exponent, **options), to_power_law),
        (lightly.PMSNCustomLoss(lambda mean: prior, **options),
         lambda mean: (prior * (prior / mean).log()).sum()),
    ):  # fmt: skip
        assert_same_steps(ours, lambda *x, f=divergence: written(*x, f), [step])


@pytest.mark.parametrize("training", [True, False])
def test_centres_move_in_evaluation_too(training):
    dino, ibot = lightly.DINOLoss(7), lightly.IBOTPatchLoss(7)
    assert list(dino.state_dict()) == ["center"]
    assert list(ibot.state_dict()) == ["center.center"]
    assert dino.center.shape == (1, 1, 7)
    assert ibot.center.value.shape == (1, 7)
    mask = torch.ones(2, 2, 1, dtype=torch.bool)
    center = torch.zeros(7)
    for _ in range(2):
        teacher, student = torch.randn(4, 7), torch.randn(4, 7)
        for loss, formula, inputs in (
            (dino, distillation_formulas.dino, ([teacher], [student, student])),
            (ibot, distillation_formulas.ibot, (teacher, student, mask)),
        ):
            found = loss.train(training)(*inputs)
            inputs = inputs[1], inputs[0], *inputs[2:]
            torch.testing.assert_close(found, formula(*inputs, 0.1, 0.04, center=center))
        center = 0.9 * center + 0.1 * teacher.mean(0)
        torch.testing.assert_close(dino.center.flatten(), center)
        torch.testing.assert_close(ibot.center.value.flatten(), center)


def test_centres_after_inference():
    """Training continues after validation in inference mode, and after a non-finite batch."""
    mask = torch.ones(2, 2, 1, dtype=torch.bool)
    teacher, student = torch.randn(4, 7), torch.randn(4, 7)
    for loss, inputs in (
        (lightly.DINOLoss(7), lambda t, s: ([t], [s, s])),
        (lightly.IBOTPatchLoss(7), lambda t, s: (t, s, mask)),
    ):
        with torch.inference_mode():
            loss.eval()(*inputs(teacher, student))
        loss.train()(*inputs(torch.full((4, 7), torch.inf), student))
        value = loss(*inputs(teacher, student.clone().requires_grad_()))
        value.backward()
        assert value.isfinite()
        assert all(x.isfinite().all() for x in loss.state_dict().values())


def test_visible_patches():
    teacher, student = randn(3, 4, 7, grad=False), randn(3, 4, 7)
    rows = distillation_formulas.cross_entropy(
        torch.softmax(teacher / 0.04, -1), torch.log_softmax(student / 0.1, -1)
    )
    mask = torch.tensor([[True, False, False, True], [True] * 4, [False] * 4])
    images = [
        (row[m].mean() if m.any() else 0) + 0.3 * (row[~m].mean() if (~m).any() else 0)
        for row, m in zip(rows, mask, strict=True)
    ]
    for shape in (teacher.shape, (12, 7)):
        loss = lightly.IBOTPlusPlusPatchLoss(7).double()
        found = loss(teacher.view(shape), student.view(shape), mask, visible_loss_weight=0.3)
        torch.testing.assert_close(found, sum(images) / 3)
    found = lightly.IBOTPlusPlusPatchLoss(7)(teacher, student)
    torch.testing.assert_close(found, rows.mean())


def test_shapes_and_state():
    crops = [torch.randn(5, 6) for _ in range(3)]
    found = lightly.SwaVLoss()(crops[:2], crops[2:])
    assert found.shape == (1,)
    torch.testing.assert_close(found[0], losses.SwaVLoss()(crops[:2], crops[2:]))
    views = [(torch.randn(4, 3), torch.randn(4, 2, 2, 3)) for _ in range(2)]
    grids = [torch.rand(4, 2, 2, 2) for _ in range(2)]
    found = lightly.VICRegLLoss()(views, grids)
    assert found.shape == (1,)
    torch.testing.assert_close(found[0], losses.VICRegLLoss()(views, grids))

    tico, other = lightly.TiCoLoss(), losses.TiCoLoss()
    assert tico.C is None
    for update in (True, False, True):
        x = torch.randn(5, 3), torch.randn(5, 3)
        torch.testing.assert_close(tico(*x, update), other(*x, update))
        torch.testing.assert_close(tico.C, other.C)
    assert tico.state_dict() == {}

    x = torch.randn(5, 9), torch.randn(5, 9)
    few = lightly.DirectCLRLoss(loss_dim=20)(*x)  # all features
    torch.testing.assert_close(few, lightly.NTXentLoss()(*x))
    assert lightly.NTXentLoss(gather_distributed=True).gather_distributed
    assert not lightly.BarlowTwinsLoss().gather_distributed


@pytest.mark.parametrize("loss, inputs, error", [
    (lightly.VICRegLoss(), ((1, 3), (1, 3)), AssertionError),
    (lightly.VICRegLoss(), ((4, 3), (4, 2)), AssertionError),
    (lightly.TiCoLoss(), ((1, 3), (1, 3)), AssertionError),
    (lightly.MMCRLoss(), ((2, 2, 3), (2, 1, 3)), AssertionError),
    (lightly.WMSELoss(3, w_size=6), ((13, 3),), RuntimeError),
    (lightly.WMSELoss(3, w_size=6), ((4, 3),), ValueError),
])  # fmt: skip
def test_errors_that_lightly_raises(loss, inputs, error):
    with pytest.raises(error):
        loss(*(torch.ones(shape) for shape in inputs))
    with pytest.raises(torch.linalg.LinAlgError, match="positive definite"):
        lightly.WMSELoss(3, w_size=6)(torch.ones(12, 3))
    of_1_6 = () if IS_BEFORE_1_6 else (9, (9,), (9, 2, 2))
    for size in (-1, (3, -4), *of_1_6):
        with pytest.raises(ValueError, match="size of a memory bank must"):
            lightly.NTXentLoss(memory_bank_size=size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    """Also where lightly's Sinkhorn-Knopp overflows, and its memory bank has another dtype."""
    x = [torch.randn(8, 6, dtype=dtype, requires_grad=True) for _ in range(2)]
    for value in (
        lightly.SwaVLoss()([3 * z for z in x], []),
        lightly.NTXentLoss(memory_bank_size=(20, 6))(*x),
        lightly.NTXentLoss(0.05)(*x),
    ):
        assert value.dtype == torch.float32
        grads = torch.autograd.grad(value.sum(), x, allow_unused=True)
        assert all(g.dtype == dtype and g.isfinite().all() for g in grads if g is not None)
        assert value.isfinite().all()
