"""Fused Triton kernels: every logit is read once, for all the views that its row meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from .._triton import two_floats, unit
from .problem import Problem, Statistics, empty_statistics, readable
from .tiled import product as product
from .triton_kernels import backward_kernel, combine_kernel, forward_kernel

MOST_TEACHERS = 64
TILE = 4096  # teachers' logits that a program holds in registers
WARPS = 8


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    problem, out = _prepared(problem), empty_statistics(problem)
    rows, width = problem.teacher[0].shape
    teachers = len(problem.teacher)
    blocks = triton.cdiv(width, _block(teachers))
    for run in _runs(problem.student):
        students = len(problem.student[run])
        count = 2 * students + 2 * teachers + students * teachers
        partials = problem.pairs.new_empty((count, rows * blocks))
        _launch(forward_kernel, problem, run, [partials])
        combine_kernel[(rows, students)](
            partials,
            out.student_max[run],
            out.student_sum[run],
            out.teacher_max,
            out.teacher_sum,
            out.cost[run],
            students,
            teachers,
            blocks,
            BLOCKS=triton.next_power_of_2(blocks),
            num_warps=4,
        )
    return out


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S of (B, K); they may be the students themselves.
    """
    problem, row_grad = _prepared(problem), row_grad.contiguous()
    for run in _runs(problem.student, out):
        pointers = [
            statistics.student_max[run],
            statistics.student_sum[run],
            statistics.teacher_max,
            statistics.teacher_sum,
            problem.pairs[run],
            row_grad[run],
            out[run.start],
        ]
        _launch(backward_kernel, problem, run, pointers, *_strides(out[run]))


def _launch(
    kernel: Any, problem: Problem, run: slice, pointers: Sequence[Tensor], *strides: int
) -> None:
    """A program for each block of every row."""
    student, teacher, center = problem.student[run], problem.teacher, problem.center
    rows, width = student[0].shape
    block = _block(len(teacher))
    of_views, of_centers = [*_strides(student), *_strides(teacher)], problem.center_steps()
    kernel[(rows * triton.cdiv(width, block),)](
        student[0],
        teacher[0],
        teacher[0] if center is None else center,  # not read
        *pointers,
        len(student),
        len(teacher),
        width,
        *of_views,
        *of_centers,
        *two_floats(1 / problem.student_temperature),
        *two_floats(1 / (problem.teacher_temperature or 1.0)),
        *strides,
        CENTER=center is not None,
        PROBABILITIES=problem.teacher_temperature is None,
        UNIT=unit(width, *of_views, *of_centers[:2], *strides),
        VIEWS=TILE // block,
        BLOCK=block,
        num_warps=WARPS,
    )


def _block(teachers: int) -> int:
    """Columns of a program."""
    return TILE // triton.next_power_of_2(teachers)


def _prepared(problem: Problem) -> Problem:
    """With rows that lie in one piece, and teachers at equal distances."""
    if len(problem.teacher) > MOST_TEACHERS:
        raise ValueError(
            f"impl='triton' takes up to {MOST_TEACHERS} teachers, got {len(problem.teacher)}; "
            "use impl='tiled'"
        )
    problem = readable(problem)
    if len(list(_runs(problem.teacher))) > 1:
        problem = problem._replace(teacher=torch.stack(list(problem.teacher)).unbind())
    return problem


def _runs(*sides: Sequence[Tensor]) -> Iterator[slice]:
    """Parts of the views that lie at equal distances, on every side: one launch serves each."""
    start = 0
    for end in range(1, len(sides[0]) + 1):
        if end == len(sides[0]) or not all(
            _distance(x[end - 1], x[end]) == _distance(x[start], x[start + 1]) is not None
            for x in sides
        ):
            yield slice(start, end)
            start = end


def _strides(views: Sequence[Tensor]) -> tuple[int, int]:
    """Of views at equal distances, and of their rows."""
    return _distance(*views[:2]) if len(views) > 1 else 0, views[0].stride(0)


def _distance(a: Tensor, b: Tensor) -> int | None:
    """From a to b in elements, where their rows have one stride."""
    distance, rest = divmod(b.data_ptr() - a.data_ptr(), a.element_size())
    return distance if a.stride(0) == b.stride(0) and rest == 0 else None
