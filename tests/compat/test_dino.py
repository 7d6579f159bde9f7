"""``sslkernels.compat.dino`` and ``dinov2`` against formulas: neither is on the package index."""

import math

import distillation_formulas
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_steps

from sslkernels.compat import dino, dinov2

quick = settings(max_examples=15, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
temperatures = st.floats(0.04, 1)
momenta = st.floats(0, 1)
K = 12


def randn(*shape, grad=False):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


class WrittenDINOLoss(torch.nn.Module):
    """main_dino.py's loss, for one process."""

    def __init__(self, crops, temperatures, student_temp, momentum):
        super().__init__()
        self.register_buffer("center", torch.zeros(1, K))
        self.crops, self.temperatures = crops, temperatures
        self.student_temp, self.momentum = student_temp, momentum

    def forward(self, student, teacher, epoch):
        loss = distillation_formulas.dino(
            student.chunk(self.crops), teacher.chunk(2), self.student_temp,
            self.temperatures[epoch], self.center,
        )  # fmt: skip
        mean = teacher.detach().mean(0, keepdim=True)
        self.center = self.center * self.momentum + mean * (1 - self.momentum)
        return loss


@dtypes
@quick
@given(st.integers(2, 5), temperatures, temperatures, temperatures, momenta, st.booleans())
def test_dino(dtype, crops, first, last, student_temp, momentum, training):
    schedule = [first, (first + last) / 2, last, last, last]
    ours = dino.DINOLoss(K, crops, first, last, 3, 5, student_temp, momentum).train(training)
    written = WrittenDINOLoss(crops, schedule, student_temp, momentum)
    steps = [(randn(crops * 3, K, grad=True), randn(6, K), epoch) for epoch in range(5)]
    ours, written = assert_same_steps(ours, written, steps, dtype)
    assert list(ours.state_dict()) == ["center"]
    torch.testing.assert_close(ours.center.double(), written.center, rtol=1e-5, atol=1e-5)


@dtypes
@quick
@given(st.integers(1, 4), st.integers(1, 3), temperatures, st.booleans())
def test_dinov2_class_tokens(dtype, students, teachers, temperature, as_tensor):
    def written(student, teacher):
        return sum(-(t * F.log_softmax(s / temperature, -1)).sum(-1).mean()
                   for s in student for t in teacher)  # fmt: skip

    ours = dinov2.DINOLoss(K, temperature)
    teacher = torch.softmax(3 * randn(teachers, 5, K), -1)
    student = [randn(5, K, grad=True) for _ in range(students)]
    step = (student, teacher if as_tensor else list(teacher))
    assert_same_steps(ours, written, [step], dtype)


@dtypes
@quick
@given(st.integers(1, 4), st.integers(1, 5), temperatures)
def test_dinov2_patches(dtype, images, patches, temperature):
    mask = torch.rand(images, patches) < 0.6

    def cross_entropies(s, t):
        return -(t * F.log_softmax(s / temperature, -1)).sum(-1)

    def written(s, t, mask):
        rows = cross_entropies(s, t) * mask
        return (rows.sum(1) / mask.sum(1).clamp(min=1)).mean()

    ours = dinov2.iBOTPatchLoss(K, temperature)
    student = randn(images, patches, K, grad=True)
    teacher = torch.softmax(randn(images, patches, K), -1)
    assert_same_steps(ours, written, [(student, teacher, mask)], dtype)
    count = int(mask.sum())
    if count:
        # the same from the masked patches alone; the rest of the buffer must not count
        for spare in (0, 3):
            s, t = (F.pad(x[mask], (0, 0, 0, spare)) for x in (student, teacher))
            found = ours.forward_masked(s, t, mask, count if spare else None)
            torch.testing.assert_close(found, written(student, teacher, mask).float().double(),
                                       rtol=1e-5, atol=1e-6)  # fmt: skip
        weights = torch.rand(count, dtype=torch.float64)
        found = ours.forward_masked(student[mask], teacher[mask], mask, count, weights)
        expected = (cross_entropies(student[mask], teacher[mask]) * weights).sum() / images
        torch.testing.assert_close(found, expected)


@quick
@given(st.integers(1, 12), st.floats(0.06, 1), st.integers(1, 4))
def test_dinov2_sinkhorn(rows, temperature, iterations):
    logits = randn(rows, K)
    plan = torch.exp(logits / temperature)
    for _ in range(iterations):
        plan = plan / plan.sum(0)
        plan = plan / plan.sum(1, keepdim=True)
    found = dinov2.DINOLoss(K).sinkhorn_knopp_teacher(logits, temperature, iterations)
    torch.testing.assert_close(found, plan)
    count = torch.tensor([rows])
    found = dinov2.iBOTPatchLoss(K).sinkhorn_knopp_teacher(logits, temperature, count, iterations)
    torch.testing.assert_close(found, plan)
    assert count.item() == rows  # dinov2 multiplies it by the number of ranks


def test_dinov2_sinkhorn_does_not_overflow():
    logits = torch.full((4, K), -5.0)
    logits[0, 0] = 5.0  # exp(5 / 0.04) exceeds float32
    found = dinov2.DINOLoss(K).sinkhorn_knopp_teacher(logits, 0.04)
    torch.testing.assert_close(found.sum(1), torch.ones(4))


@quick
@given(momenta, st.floats(0.04, 0.2))
def test_dinov2_centre(momentum, temperature):
    for cls, shape in ((dinov2.DINOLoss, (6, K)), (dinov2.iBOTPatchLoss, (1, 6, K))):
        loss = cls(K, center_momentum=momentum)
        center = torch.zeros(K, dtype=torch.float64)
        for _ in range(3):
            logits = randn(*shape)
            found = loss.double().softmax_center_teacher(logits, temperature)
            torch.testing.assert_close(found, torch.softmax((logits - center) / temperature, -1))
            loss.update_center(logits)
            center = momentum * center + (1 - momentum) * logits.reshape(-1, K).mean(0)
        loss.apply_center_update()
        torch.testing.assert_close(loss.center.flatten(), center)
        assert {name: x.dim() for name, x in loss.state_dict().items()} == {"center": len(shape)}


@dtypes
def test_dinov2_koleo(dtype):
    inputs = [(randn(9, 5, grad=True),)]
    assert_same_steps(dinov2.KoLeoLoss(), distillation_formulas.koleo, inputs, dtype)
    # the first is its own neighbour, as in dinov2; the other's is the first
    opposites = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=dtype)
    own = math.log(1e-8 * math.sqrt(2) + 1e-8)
    expected = torch.tensor(-(own + math.log(2)) / 2, dtype=dtype)
    torch.testing.assert_close(dinov2.KoLeoLoss()(opposites), expected)
