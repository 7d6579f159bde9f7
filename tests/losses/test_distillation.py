"""Additions of the self-distillation modules to the formulas: centres, schedules, masks, errors."""

import copy
import io
import pickle

import distillation_formulas as formulas
import pytest
import torch
import torch.nn.functional as F

import sslkernels as ssl
from sslkernels import functional


def views(count, rows=6, width=40, dtype=torch.float64):
    return [torch.randn(rows, width, dtype=dtype, requires_grad=True) for _ in range(count)]


def assert_same(ours, formula, leaves, tolerance=1e-5):
    assert abs(ours - formula) <= tolerance * abs(formula)
    for a, b in zip(*(torch.autograd.grad(x, leaves) for x in (ours, formula)), strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_dino_over_three_steps(dtype, as_tensor):
    loss = ssl.DINOLoss(40, 0.03, 0.07, 4, student_temp=0.2, center_momentum=0.8)
    center = torch.zeros(40, dtype=torch.float64)
    for epoch in range(3):
        students, teachers = views(4, dtype=dtype), views(2, dtype=dtype)
        given = (
            [torch.stack(x) for x in (teachers, students)] if as_tensor else (teachers, students)
        )
        wide = [x.detach().double().requires_grad_() for x in students]
        expected = formulas.dino(
            wide, [t.double() for t in teachers], 0.2, 0.03 + epoch * 0.04 / 3, center
        )
        ours = loss(*given, epoch=epoch)
        assert abs(ours - expected) <= 1e-5 * abs(expected)
        grads = torch.autograd.grad(ours, students), torch.autograd.grad(expected, wide)
        for a, b in zip(*grads, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()
        batch = torch.cat([t.detach().double() for t in teachers]).mean(0)
        center = 0.8 * center + 0.2 * batch
        assert loss.center.shape == (1, 1, 40)
        assert (loss.center - center).norm() <= 1e-5 * center.norm()


def test_temperature_schedule():
    loss = ssl.DINOLoss(8, 0.04, 0.07, 4)
    found = [loss.temperature_at(epoch) for epoch in (0, 1, 3, 4, 100, None)]
    assert found == pytest.approx([0.04, 0.05, 0.07, 0.07, 0.07, 0.07])
    assert ssl.DINOLoss(8, 0.04, 0.07, 0).temperature_at(0) == 0.07
    teachers, students = views(2, width=8), views(2, width=8)
    given = ssl.DINOLoss(8)(teachers, students, teacher_temp=0.5)
    assert_same(given, formulas.dino(students, teachers, 0.1, 0.5), students)


def test_official_dino_takes_crops_in_one_tensor():
    official = ssl.OfficialDINOLoss(40, 5, 0.04, 0.07, 3, 10)
    lightly = ssl.DINOLoss(40, 0.04, 0.07, 3)
    for epoch in range(3):
        students, teachers = torch.stack(views(5)), torch.stack(views(2))
        found = official(students.flatten(0, 1), teachers.flatten(0, 1), epoch)
        assert torch.equal(found, lightly(teachers, students, epoch=epoch))
    assert official.center.shape == (1, 40)
    assert torch.equal(official.center, lightly.center[0])
    with pytest.raises(ValueError, match=r"student_output must be \(5 B, K\), got \(9, 40\)"):
        official(torch.randn(9, 40), torch.randn(4, 40))


@pytest.mark.parametrize("make", [ssl.DINOLoss, ssl.IBOTPatchLoss])
def test_sinkhorn_centring(make):
    """The teacher's plan over all its rows, instead of its centred softmax."""
    loss = make(40, teacher_temp=0.06, center_mode="sinkhorn")
    students, teachers = views(3), views(2)
    plan = formulas.sinkhorn(torch.cat(teachers).detach(), 0.06).unflatten(0, (2, -1))
    logs = [F.log_softmax(s / 0.1, dim=1) for s in students]
    if make is ssl.DINOLoss:
        pairs = [(t, s) for t in range(2) for s in range(3) if s != t]
        expected = sum(formulas.cross_entropy(plan[t], logs[s]).mean() for t, s in pairs) / 4
        assert_same(loss(teachers, students), expected, students)
    else:
        mask = torch.ones(4, 3, dtype=torch.bool)
        expected = formulas.cross_entropy(plan.flatten(0, 1), torch.cat(logs[:2])).mean()
        assert_same(
            loss(torch.cat(teachers), torch.cat(students[:2]), mask), expected, students[:2]
        )
    assert not loss.center.any()


@pytest.mark.parametrize("mode", ["mean", "sinkhorn"])
@pytest.mark.parametrize("normalized", [False, True])
def test_features_and_prototypes(mode, normalized):
    """Loss, gradients and centre of a head without stored logits."""
    weight, teacher_weight = (torch.randn(40, 8).double().requires_grad_() for _ in range(2))
    magnitude = (torch.rand(40, 1).double() + 0.5).requires_grad_()
    students, teachers = torch.stack(views(3, width=8)), torch.stack(views(2, width=8))
    mask = torch.ones(6, 2, dtype=torch.bool)
    leaves = [weight] + [magnitude] * normalized
    given = {
        "prototypes": (weight, magnitude) if normalized else weight,
        "teacher_prototypes": (teacher_weight, magnitude) if normalized else teacher_weight,
    }
    for make in (ssl.DINOLoss, ssl.IBOTPatchLoss):
        fused, plain = make(40, center_mode=mode), make(40, center_mode=mode)
        inputs, rest = (teachers, students), ()
        if make is ssl.IBOTPatchLoss:
            inputs, rest = [x[:2].flatten(0, 1) for x in inputs], (mask,)
        for _ in range(2):
            own, their = (F.normalize(w, dim=1) * magnitude if normalized else w
                          for w in (weight, teacher_weight))  # fmt: skip
            found = fused(*inputs, *rest, **given)
            expected = plain(inputs[0] @ their.T, inputs[1] @ own.T, *rest)
            assert_same(found, expected, leaves)
            torch.testing.assert_close(fused.center, plain.center)


def test_center_is_kept_with_checkpoints_and_copies():
    loss = ssl.IBOTPatchLoss(8)
    mask = torch.ones(3, 2, dtype=torch.bool)
    loss(torch.randn(6, 8), torch.randn(6, 8), mask)
    assert list(loss.state_dict()) == ["center"]
    again = ssl.IBOTPatchLoss(8)
    again.load_state_dict(loss.state_dict())
    for other in (again, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert loss.center.any()
        assert torch.equal(other.center, loss.center)
    torch.save(loss.state_dict(), io.BytesIO())


def test_center_rests_in_evaluation():
    loss = ssl.DINOLoss(8).eval()
    loss(views(2, width=8), views(2, width=8))
    assert not loss.center.any()


def test_an_update_by_half_precision():
    loss = ssl.DINOLoss(8, center_momentum=0.0)
    teachers = [torch.full((3, 8), 60000.0).half() for _ in range(2)]
    loss(teachers, [x.half() for x in views(2, 3, 8)])
    assert torch.equal(loss.center, torch.full((1, 1, 8), 60000.0).half().float())


def test_compiled_modules():
    def run(compile):
        torch.compiler.reset()
        torch.manual_seed(1)
        dino, ibot = ssl.DINOLoss(20), ssl.IBOTPatchLoss(20)
        steps = [compile(x) for x in (dino, ibot)]
        mask = torch.ones(3, 2, dtype=torch.bool)
        losses = []
        for _ in range(3):
            students, teachers = torch.randn(3, 6, 20), torch.randn(2, 6, 20)
            losses.append(steps[0](teachers, students))
            losses.append(steps[1](teachers[0], students[0], mask))
        return [*losses, dino.center, ibot.center]

    compiled = run(lambda x: torch.compile(x, fullgraph=True, backend="aot_eager"))
    torch.testing.assert_close(compiled, run(lambda x: x))


@pytest.mark.parametrize("shape", [(7, 4, 5), (7, 20)])
def test_masked_patches_weigh_by_their_image(shape):
    mask = torch.rand(shape) < 0.3
    mask[2] = False  # an image without any
    patches = int(mask.sum())
    student = torch.randn(patches, 30, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(patches, 30, dtype=torch.float64)
    expected = formulas.ibot(student, teacher, mask, 0.1, 0.04)
    assert_same(functional.ibot(student=student, teacher=teacher, mask=mask), expected, [student])
    alike = functional.ibot(student=student, teacher=teacher, mask=mask, normalization="patch")
    rows = formulas.ibot(student, teacher, torch.ones(1, patches, dtype=torch.bool), 0.1, 0.04)
    assert_same(alike, rows, [student])


X = torch.randn(5, 8)
MASK = torch.ones(5, 1, dtype=torch.bool)


@pytest.mark.parametrize("call, error, message", [
    (lambda: functional.dino(student=[X], teacher=[X]), ValueError, "at least two"),
    (lambda: ssl.DINOLoss(8)([X], [X]), ValueError, "1 student and 1 teacher views"),
    (lambda: functional.dino(student=X, teacher=[X]), ValueError, r"\(views, B, K\)"),
    (lambda: functional.dino(student=[X, X], teacher=[X], prototypes=X), ValueError,
     "both, or neither"),
    (lambda: ssl.DINOLoss(9)([X], [X, X]), ValueError, "output_dim=9 columns, got 8"),
    (lambda: ssl.DINOLoss(8, center_mode="median"), ValueError, "median"),
    (lambda: ssl.DINOLoss(8, center_momentum=1.5), ValueError, "1.5"),
    (lambda: ssl.DINOLoss(8, teacher_temp=0.0), ValueError, "teacher_temp must be above 0"),
    (lambda: functional.ibot(student=X, teacher=X, mask=MASK[:4]), ValueError,
     "selects 4 .* 5 rows"),
    (lambda: functional.ibot(student=X[:0], teacher=X[:0], mask=~MASK), ValueError, "no patch"),
    (lambda: ssl.IBOTPatchLoss(8)(X[:0], X[:0], ~MASK), ValueError, "no patch"),
    (lambda: functional.ibot(student=X, teacher=X, mask=MASK.float()), TypeError, "bool"),
    (lambda: functional.ibot(student=X, teacher=X, mask=MASK[:, 0]), ValueError, r"\(B, H, W\)"),
    (lambda: functional.ibot(student=X, teacher=X, mask=MASK, normalization="row"), ValueError,
     "row"),
    (lambda: functional.koleo(X, topk=5), ValueError, r"1\.\.4"),
    (lambda: functional.koleo(X[:1]), ValueError, "at least 2"),
    (lambda: functional.koleo(X, convention="dinov9"), ValueError, "dinov9"),
    (lambda: functional.swav([X]), ValueError, "another one"),
    (lambda: functional.swav([X, X], queue=[X]), ValueError, "got 1"),
    (lambda: functional.msn(X, X[:2], X), ValueError, "some views of every target"),
    (lambda: functional.msn(X, X, X[:, :3]), ValueError, r"prototypes \(5, 3\)"),
    (lambda: functional.msn(X, X, X, sinkhorn_iterations=-1), ValueError, "-1"),
    (lambda: functional.msn(X, X, X, distribution=torch.ones(3)), ValueError, r"\(3,\)"),
    (lambda: ssl.MSNLoss(temperature=0), ValueError, "above 0"),
    (lambda: functional.capi(teacher=X, student=X), ValueError, r"\(B, N, K\)"),
    (lambda: functional.capi(teacher=X[None], student=X[None, :3]), ValueError, "without index"),
    (lambda: functional.capi(teacher=X[None], student=X[None, :3], index=torch.zeros(1, 3)),
     ValueError, "int64"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_input_leaves_the_center_alone():
    loss = ssl.DINOLoss(8)
    with pytest.raises(ValueError):
        loss([X], [X[:3], X[:3]])
    assert not loss.center.any()


def test_koleo_conventions():
    """An embedding opposite to all others: its own neighbour in DINOv2, left out in lightly."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    dinov2, lightly = (functional.koleo(x, convention=c) for c in ("dinov2", "lightly"))
    assert dinov2.item() == pytest.approx(8.423, abs=1e-3)
    assert lightly.item() == pytest.approx(-torch.tensor(2.0).log().item())


def test_msn_learns_prototypes():
    anchors, targets, prototypes = views(3, 12, 16)
    targets = targets[:4]
    found = functional.msn(anchors, targets, prototypes)
    expected = formulas.msn(anchors, targets, prototypes)
    assert_same(found, expected, [anchors, prototypes])
    custom = ssl.PMSNCustomLoss(lambda p: torch.arange(1, len(p) + 1) / sum(range(len(p) + 1)))
    prior = torch.arange(1, 13).double() / 78
    found, expected = (
        custom(anchors, targets, prototypes),
        formulas.msn(anchors, targets, prototypes, prior),
    )
    assert_same(found, expected, [anchors, prototypes])
    law = functional.power_law(12, 0.25)
    assert law.sum().item() == pytest.approx(1)
    assert (law[0] / law[7]).item() == pytest.approx(8**0.25)
    expected = formulas.msn(anchors, targets, prototypes, law)
    assert_same(ssl.PMSNLoss()(anchors, targets, prototypes), expected, [anchors, prototypes])


def test_capi_of_some_tokens():
    teacher = torch.randn(6, 9, 20, dtype=torch.float64)
    student = torch.randn(6, 4, 20, dtype=torch.float64, requires_grad=True)
    index = torch.stack([torch.randperm(9)[:4] for _ in range(6)])
    expected = formulas.capi(teacher, student, index)
    assert_same(ssl.CAPILoss()(teacher, student, index), expected, [student])


def test_swav_with_a_queue():
    high, low = views(2), views(3)
    queue = [torch.randn(20, 40, dtype=torch.float64) for _ in range(2)]
    expected = formulas.swav(high, low, queue)
    assert_same(ssl.SwaVLoss()(high, low, queue), expected, high + low)
    weight = torch.randn(40, 8, dtype=torch.float64, requires_grad=True)
    features = [[torch.randn(n, 8, dtype=torch.float64) for _ in range(2)] for n in (6, 20)]
    found = ssl.SwaVLoss()(features[0], (), features[1], prototypes=weight)
    logits = [[x @ weight.T for x in part] for part in features]
    expected = formulas.swav(logits[0], (), [x.detach() for x in logits[1]])
    assert_same(found, expected, [weight])
