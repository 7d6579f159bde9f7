"""Two passes over chunks of prototypes in plain torch: any device, any float dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce as fold

import torch
from torch import Tensor

from .._tiles import product as multiply
from .problem import Problem, Statistics, counted, merge, summary
from .reference import in_turn

CHUNK = {"cpu": 1 << 17, "cuda": 1 << 23}  # logits of all teachers at a time


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies (S, B), and the maximum and sum of the students' and teachers' rows."""
    return summary(problem, reduce(problem))


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    return fold(merge, (_reduce(problem.part(columns)) for columns in chunks(problem)))


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S tensors (B, K), which may be the students themselves.
    """
    for columns in chunks(problem):
        _weigh(problem.part(columns), statistics, row_grad, [x[:, columns] for x in out])


def product(a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> None:
    """out (+)= a b, in the dtype of ``out``."""
    if accumulate:
        out += multiply(a, b, out.new_empty(0))
    else:
        multiply(a, b, out)


def chunks(problem: Problem) -> Iterator[slice]:
    """Chunks of prototypes whose logits fit the cache."""
    rows, width = problem.teacher[0].shape
    size = max(1, CHUNK[problem.student[0].device.type] // (rows * len(problem.teacher)))
    for start in range(0, width, size):
        yield slice(start, min(width, start + size))


def _reduce(problem: Problem) -> Statistics:
    teacher = _teacher_logits(problem)  # (T, B, k)
    if problem.teacher_temperature is None:
        teacher_max = teacher.new_zeros(teacher.shape[:2])
    else:
        teacher_max = teacher.amax(2)
        teacher = teacher.sub_(teacher_max[:, :, None]).exp_()
    of_students = []
    for x in problem.student:
        logits = x.to(problem.dtype) / problem.student_temperature
        maximum = logits.amax(1)
        below = maximum[:, None] - logits
        of_students.append((maximum, (-below).exp().sum(1), (teacher * below).sum(2)))
    student_max, student_sum, cost = map(torch.stack, zip(*of_students, strict=True))
    return Statistics(student_max, student_sum, teacher_max, teacher.sum(2), cost)


def _weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    teacher, mass = _teacher_logits(problem), _mass(problem, statistics)
    if problem.teacher_temperature is not None:
        teacher = teacher.sub_(statistics.teacher_max[:, :, None]).exp_()
        teacher /= statistics.teacher_sum[:, :, None]
    row_grad = row_grad / problem.student_temperature
    for s, x in enumerate(problem.student):
        logits = x.to(problem.dtype) / problem.student_temperature
        weights = logits.sub_(statistics.student_max[s, :, None]).exp_()
        weights *= (mass[s] / statistics.student_sum[s])[:, None]
        for t in range(len(teacher)):
            weights -= counted(problem.matrix[s, t], teacher[t])
        out[s].copy_(weights.mul_(row_grad[s, :, None]))


def _mass(problem: Problem, statistics: Statistics) -> Tensor:
    """(S, B): the sums of all teachers' probabilities."""
    if problem.teacher_temperature is None:
        return counted(problem.matrix[:, :, None], statistics.teacher_sum).sum(1)
    return problem.matrix.sum(1, keepdim=True).expand(-1, len(problem.student[0]))


def _teacher_logits(problem: Problem) -> Tensor:
    """(T, B, k), centred and scaled; or probabilities."""
    teacher = torch.stack([x.to(problem.dtype) for x in problem.teacher])
    if problem.teacher_temperature is None:
        return teacher
    if problem.center is not None:
        in_turn(teacher, problem.center).sub_(problem.center[:, None])
    return teacher.div_(problem.teacher_temperature)
