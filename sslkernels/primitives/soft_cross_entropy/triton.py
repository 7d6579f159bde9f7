"""Fused Triton kernels: every logit is read once, for all views of its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .._tile_table import ceil, power_of_two
from .._triton import inverse, unit
from .problem import Pairs, Problem, Statistics, empty_statistics, readable
from .tiled import product as product
from .triton_kernels import backward_kernel, combine_kernel, forward_kernel

MOST_TEACHERS = 64
MOST_STUDENTS = 16  # per launch
TILE = 4096  # teachers' logits in a program's registers
WARPS = 8


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies (S, B), and the maximum and sum of the students' and teachers' rows."""
    students, rows = len(problem.student), problem.student[0].shape[0]
    sizes = students, 2 * students, 2 * len(problem.teacher)
    entropies, of_students, of_teachers = (
        problem.student[0].new_empty((size, rows), dtype=torch.float32) for size in sizes
    )
    of_students, of_teachers = of_students.view(2, students, rows), of_teachers.view(2, -1, rows)
    student_max, student_sum = of_students
    teacher_max, teacher_sum = of_teachers
    out = Statistics(student_max, student_sum, teacher_max, teacher_sum, entropies)
    _reduce(problem, out, ENTROPIES=True)
    return entropies, of_students, of_teachers


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    out = empty_statistics(problem)
    _reduce(problem, out, ENTROPIES=False)
    return out


def _reduce(problem: Problem, out: Statistics, ENTROPIES: bool) -> None:
    """``out`` may hold the cross-entropies instead of the cost."""
    problem = _prepared(problem)
    rows, width = problem.teacher[0].shape
    teachers = len(problem.teacher)
    blocks = ceil(width, _block(teachers))
    weight, same = _rule(problem)
    for run in _runs(problem.student):
        students = len(problem.student[run])
        count = 2 * students + 2 * teachers + students * teachers
        partials = out.cost.new_empty((count, rows * blocks))
        _launch(forward_kernel, problem, run, [partials])
        combine_kernel[(rows, students)](
            partials,
            out.student_max[run],
            out.student_sum[run],
            out.teacher_max,
            out.teacher_sum,
            out.cost[run],
            _matrix(problem, run),
            students,
            teachers,
            blocks,
            run.start,
            weight,
            ENTROPIES=ENTROPIES,
            SAME=same,
            PROBABILITIES=problem.teacher_temperature is None,
            BLOCKS=power_of_two(blocks),
            num_warps=4,
        )


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S of (B, K) at equal distances; they may be the students themselves.
    """
    problem = _prepared(problem)
    weight, same = _rule(problem)
    for run in _runs(problem.student):
        pointers = [
            statistics.student_max[run],
            statistics.student_sum[run],
            statistics.teacher_max,
            statistics.teacher_sum,
            _matrix(problem, run),
            row_grad[run],
            out[run.start],
        ]
        numbers = (*row_grad.stride(), run.start, weight)
        _launch(backward_kernel, problem, run, pointers, _strides(out), numbers, SAME=same)


def _launch(
    kernel: Any,
    problem: Problem,
    run: slice,
    pointers: Sequence[Tensor | None],
    strides: Sequence[int] = (),
    numbers: Sequence[float] = (),
    **constants: bool,
) -> None:
    """One program for each block of every row."""
    student, teacher, center = problem.student[run], problem.teacher, problem.center
    rows, width = student[0].shape
    block = _block(len(teacher))
    distances = [_distance(student[0], x) or 0 for x in student[1:]]
    of_views = [student[0].stride(0), *_strides(teacher)]
    of_centers = problem.center_steps()
    own, *student_factor = inverse(problem.student_temperature)
    temperature = problem.teacher_temperature
    other, *teacher_factor = inverse(1.0 if temperature is None else temperature)
    kernel[(rows * ceil(width, block),)](
        student[0],
        teacher[0],
        teacher[0] if center is None else center,  # not read
        own,
        other,
        *pointers,
        len(student),
        len(teacher),
        width,
        *distances,
        *[0] * (MOST_STUDENTS - len(student)),
        *of_views,
        *of_centers,
        *student_factor,
        *teacher_factor,
        *strides,
        *numbers,
        CENTER=center is not None,
        PROBABILITIES=temperature is None,
        ON_DEVICE=own is not None,
        UNIT=unit(width, *distances, *of_views, *of_centers[:2], *strides),
        VIEWS=TILE // block,
        BLOCK=block,
        num_warps=WARPS,
        **constants,
    )


def _matrix(problem: Problem, run: slice) -> Tensor | None:
    return None if isinstance(problem.pairs, Pairs) else problem.pairs[run]


def _rule(problem: Problem) -> Pairs:
    return problem.pairs if isinstance(problem.pairs, Pairs) else Pairs(0.0)  # not read


def _block(teachers: int) -> int:
    """Columns per program."""
    return TILE // power_of_two(teachers)


def _prepared(problem: Problem) -> Problem:
    """The problem with contiguous rows of one stride, and teachers at equal distances."""
    if len(problem.teacher) > MOST_TEACHERS:
        raise ValueError(
            f"impl='triton' takes up to {MOST_TEACHERS} teachers, got {len(problem.teacher)}; "
            "use impl='tiled'"
        )
    problem = readable(problem)
    student, teacher = problem.student, problem.teacher
    if any(_distance(student[0], x) is None for x in student):
        student = torch.stack(list(student)).unbind()
    distances = {_distance(*pair) for pair in pairwise(teacher)}
    if len(distances) > 1 or None in distances:
        teacher = torch.stack(list(teacher)).unbind()
    return problem._replace(student=student, teacher=teacher)


def _runs(students: Sequence[Tensor]) -> Iterator[slice]:
    """Slices of the students, one for each launch."""
    for start in range(0, len(students), MOST_STUDENTS):
        yield slice(start, start + MOST_STUDENTS)


def _strides(views: Sequence[Tensor]) -> tuple[int, int]:
    """Strides of views at equal distances, and of their rows."""
    apart = _distance(*views[:2]) if len(views) > 1 else 0
    return apart or 0, views[0].stride(0)


def _distance(a: Tensor, b: Tensor) -> int | None:
    """The distance from a to b in elements, if their rows have the same stride; else None."""
    distance, rest = divmod(b.data_ptr() - a.data_ptr(), a.element_size())
    return distance if a.stride(0) == b.stride(0) and rest == 0 else None
