"""The benchmark cases of the self-distillation losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .case import Case, Shape, WholeCase

STUDENTS, TEACHERS = 10, 2  # views: two global crops for both, and eight local ones
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
FEATURES = 256  # of DINO's bottleneck
HIGH, LOW = 2, 6  # crops of SwAV
EPSILON = 0.05  # of its assignments


@dataclass(frozen=True)
class Logits:
    """Rows of n images in ``students`` and ``teachers`` views, k logits each."""

    n: int
    k: int
    students: int = STUDENTS
    teachers: int = TEACHERS
    passes: int = 1  # over the teachers' logits

    def entries(self) -> int:
        return (self.students + self.teachers) * self.n * self.k

    def flops(self, device: str) -> dict[str, int]:
        return {"fwd": 0, "bwd": 0}

    def exps(self, device: str) -> dict[str, int]:
        """One per logit and pass."""
        rows = self.students + self.passes * self.teachers
        return {
            "fwd": rows * self.n * self.k,
            "bwd": (self.students + self.teachers) * self.n * self.k,
        }

    def bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """All logits read, all gradients written."""
        one = self.n * self.k * dtype.itemsize
        rows = self.students + self.passes * self.teachers
        return {"fwd": rows * one, "bwd": (2 * self.students + self.teachers) * one}

    def describe(self, device: str) -> str:
        return (
            f"{self.students} + {self.teachers} views; a read and an exp per logit and pass,"
            " a write per gradient"
        )


@dataclass(frozen=True)
class Head:
    """The same from rows of FEATURES features and as many prototypes, with logits as products."""

    n: int
    k: int
    students: int = STUDENTS
    teachers: int = TEACHERS

    def entries(self) -> int:
        return Logits(self.n, self.k, self.students, self.teachers).entries()

    def flops(self, device: str) -> dict[str, int]:
        """The products, their recomputation, and the student's two gradients."""
        one = 2 * self.n * self.k * FEATURES
        forward, backward = self.students + self.teachers, 3 * self.students + self.teachers
        return {"fwd": forward * one, "bwd": backward * one}

    def exps(self, device: str) -> dict[str, int]:
        return Logits(self.n, self.k, self.students, self.teachers).exps(device)

    def bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """Features and both prototypes read, their gradients written."""
        student = (self.students * self.n + self.k) * FEATURES * dtype.itemsize
        teacher = (self.teachers * self.n + self.k) * FEATURES * dtype.itemsize
        return {"fwd": student + teacher, "bwd": 2 * student + teacher}

    def describe(self, device: str) -> str:
        forward, backward = self.students + self.teachers, 3 * self.students + self.teachers
        return f"D = {FEATURES}; FLOPs fwd {2 * forward}·nkD, bwd {2 * backward}·nkD"


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _views(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    """The students' logits, then the teachers', within the ±1 of DINO's normalised head."""
    views = [torch.tanh(0.3 * _randn(i, *shape)) for i in range(STUDENTS + TEACHERS)]
    return [x.to(device, dtype).requires_grad_(i < STUDENTS) for i, x in enumerate(views)]


def _crops(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    views = [torch.tanh(0.3 * _randn(i, *shape)) for i in range(HIGH + LOW)]
    return [x.to(device, dtype).requires_grad_() for x in views]


def _head(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    """Features of unit length (views, N, D) and prototypes (K, D): student's, then teacher's."""
    return _features(shape, (STUDENTS, TEACHERS), dtype, device)


def _patches(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    return _features(shape, (1, 1), dtype, device)


def _features(
    shape: Shape, views: tuple[int, int], dtype: torch.dtype, device: str
) -> list[Tensor]:
    n, k = shape
    sizes = [size for v in views for size in ((v, n, FEATURES), (k, FEATURES))]
    inputs = [F.normalize(_randn(i, *size), dim=-1) for i, size in enumerate(sizes)]
    return [x.to(device, dtype).requires_grad_(i < 2) for i, x in enumerate(inputs)]


def _dino(*views: Tensor) -> Tensor:
    return cross_view(views[:STUDENTS], views[STUDENTS:])


def cross_view(students, teachers) -> Tensor:
    """DINO in plain torch, view by view."""
    logs = [F.log_softmax(s / STUDENT_TEMPERATURE, dim=1) for s in students]
    total = 0.0
    for i, teacher in enumerate(teachers):
        p = F.softmax(teacher.detach() / TEACHER_TEMPERATURE, dim=1)
        total += sum(-(p * x).sum(1).mean() for j, x in enumerate(logs) if j != i)
    return total / (len(students) * len(teachers) - min(len(students), len(teachers)))


def _dino_head(
    student: Tensor, prototypes: Tensor, teacher: Tensor, teacher_prototypes: Tensor
) -> Tensor:
    return cross_view((student @ prototypes.T).unbind(), (teacher @ teacher_prototypes.T).unbind())


def _ibot_head(
    student: Tensor, prototypes: Tensor, teacher: Tensor, teacher_prototypes: Tensor
) -> Tensor:
    """iBOT in plain torch, with equal weights for all patches."""
    p = F.softmax((teacher @ teacher_prototypes.T).detach() / TEACHER_TEMPERATURE, dim=2)
    logs = F.log_softmax(student @ prototypes.T / STUDENT_TEMPERATURE, dim=2)
    return -(p * logs).sum(2).mean()


def _swav(*crops: Tensor) -> Tensor:
    logs = [F.log_softmax(x / STUDENT_TEMPERATURE, dim=1) for x in crops]
    total = 0.0
    for i, crop in enumerate(crops[:HIGH]):
        plan = torch.exp(crop.detach() / EPSILON)
        for _ in range(3):
            plan = plan / plan.sum(0)
            plan = plan / plan.sum(1, keepdim=True)
        total += sum(-(plan * x).sum(1).mean() for j, x in enumerate(logs) if j != i)
    return total / (HIGH * (HIGH + LOW - 1))


PROTOTYPES = {
    "cpu": ((64, 65536),),
    "cuda": ((64, 16384), (64, 65536), (64, 131072)),
    "quick": ((8, 4096),),
}

CASES: dict[str, Case] = {
    "dino": WholeCase(
        shape_meaning="N images x K prototypes; n = N, k = K",
        shapes=PROTOTYPES,
        make_inputs=_views,
        work=lambda shape: Logits(*shape),
        loss=_dino,
    ),
    "dino_head": WholeCase(
        shape_meaning="N images x K prototypes; n = N, k = K",
        shapes=PROTOTYPES,
        make_inputs=_head,
        work=lambda shape: Head(*shape),
        loss=_dino_head,
    ),
    "ibot_head": WholeCase(
        shape_meaning="N masked patches x K prototypes; n = N, k = K",
        shapes={"cpu": ((512, 65536),), "cuda": ((12800, 131072),), "quick": ((64, 4096),)},
        make_inputs=_patches,
        work=lambda shape: Head(*shape, students=1, teachers=1),
        loss=_ibot_head,
    ),
    "swav": WholeCase(
        shape_meaning="N images x K prototypes; n = N, k = K",
        shapes={"cpu": ((256, 3000),), "cuda": ((64, 3000), (512, 3000)), "quick": ((32, 500),)},
        make_inputs=_crops,
        work=lambda shape: Logits(*shape, HIGH + LOW, HIGH, passes=3),
        loss=_swav,
    ),
}
