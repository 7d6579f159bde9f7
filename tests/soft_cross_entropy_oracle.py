"""Random problems of soft and of prototype cross-entropy, against float64 and eager torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from oracle import assert_as_exact_as_eager, repeated, results
from torch import Tensor

from sslkernels import prototype_cross_entropy, soft_cross_entropy


def eager(student, teacher, center, pairs, student_temperature, teacher_temperature):
    """In plain torch, (S, B, K) and (T, B, K), in the inputs' dtype up to the softmax."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    if teacher_temperature is not None:
        if center is not None:
            width = center.shape[-1]
            center = center.to(teacher).expand(-1, center.shape[1], width)
            teacher = teacher - center.repeat(1, teacher.shape[1] // center.shape[1], 1)
        teacher = F.softmax((teacher / teacher_temperature).to(dtype), dim=-1)
    logs = F.log_softmax((student / student_temperature).to(dtype), dim=-1)
    return sum(
        pairs[:, t, None].to(dtype) * -(teacher[t].to(dtype) * logs).sum(-1)
        for t in range(len(teacher))
    )


def check_soft_cross_entropy(
    impl: str,
    students: int,
    teachers: int,
    rows: int,
    width: int,
    *,
    centers: tuple[int, int] | None = (1, 1),
    student_temperature: float = 0.1,
    teacher_temperature: float | None = 0.04,
    size: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    floor: float = 2.4e-7,
    listed: bool = False,
) -> None:
    """Rows and the students' gradients. ``centers``: numbers of views and rows with their own."""

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        def normal(*shape):
            return size * torch.randn(shape, dtype=torch.float64, device=device)

        student, teacher = normal(students, rows, width), normal(teachers, rows, width)
        pairs = torch.rand(students, teachers, dtype=torch.float64, device=device)
        if min(students, teachers) > 1:
            pairs.fill_diagonal_(0)
        center = None
        if teacher_temperature is None:
            teacher = 1.5 * teacher.softmax(2)
        elif centers is not None:
            center = normal(*centers, width).float()
        student, teacher = student.to(dtype), teacher.to(dtype)
        weights = [torch.randn(students, rows, dtype=torch.float64, device=device)]

        def run(impl, dtype):
            def function(x):
                other = teacher.to(dtype)
                if impl is None:
                    return (
                        eager(x, other, center, pairs, student_temperature, teacher_temperature),
                    )
                if listed:
                    x, other = list(x.unbind()), [y.clone() for y in other]
                return (
                    soft_cross_entropy(
                        x, other,
                        student_temperature=student_temperature,
                        teacher_temperature=teacher_temperature,
                        center=center, pairs=pairs, impl=impl,
                    ),
                )  # fmt: skip

            return results(function, [student], dtype, weights)

        return run(impl, dtype), run(None, dtype), run("reference", torch.float64)

    assert_as_exact_as_eager(repeated(draw, draws), floor)


def check_prototype_cross_entropy(
    impl: str,
    students: int,
    teachers: int,
    rows: int,
    width: int,
    depth: int,
    *,
    normalized: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    floor: float = 2.4e-7,
) -> None:
    """Rows and the gradients of features, prototypes and magnitude."""

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        def normal(*shape):
            return torch.randn(shape, dtype=torch.float64, device=device)

        leaves = [F.normalize(normal(students, rows, depth), dim=2), normal(width, depth)]
        other, theirs = F.normalize(normal(teachers, rows, depth), dim=2), normal(width, depth)
        if normalized:
            leaves.append(torch.rand(width, 1, dtype=torch.float64, device=device) + 0.5)
        else:
            leaves[1] /= depth**0.5
            theirs /= depth**0.5
        other, theirs = other.to(dtype), theirs.to(dtype)
        leaves = [x.to(dtype) for x in leaves]
        center = 0.1 * normal(1, 1, width).float()
        pairs = torch.ones(students, teachers, dtype=torch.float64, device=device)
        weights = [torch.randn(students, rows, dtype=torch.float64, device=device)]

        def run(impl, dtype):
            def function(x, prototypes, magnitude=None):
                y, w = other.to(dtype), theirs.to(dtype)
                if impl is None:
                    if magnitude is not None:
                        prototypes = F.normalize(prototypes, dim=1) * magnitude
                    return (eager(x @ prototypes.T, y @ w.T, center, pairs, 0.1, 0.04),)
                return (
                    prototype_cross_entropy(
                        x, prototypes, y, w,
                        magnitude=magnitude, center=center, pairs=pairs, impl=impl,
                    ),
                )  # fmt: skip

            return results(function, leaves, dtype, weights)

        return run(impl, dtype), run(None, dtype), run("reference", torch.float64)

    assert_as_exact_as_eager(repeated(draw, draws), floor)
