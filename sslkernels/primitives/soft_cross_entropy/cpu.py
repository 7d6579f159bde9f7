"""The C++ kernels: every logit is read once, for all views of its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .problem import Pairs, Problem, Statistics, empty_statistics, readable


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies (S, B), and the maximum and sum of the students' and teachers' rows."""
    problem, like = readable(problem), problem.student[0]
    views, teachers = (len(problem.student), len(like)), (len(problem.teacher), len(like))
    rows = like.new_empty(views, dtype=problem.dtype)
    student = like.new_empty((2, *views), dtype=problem.dtype)
    teacher = like.new_empty((2, *teachers), dtype=problem.dtype)
    halves = (x.data_ptr() + half * x.nbytes // 2 for x in (student, teacher) for half in (0, 1))
    extension().soft_cross_entropy_forward(*arguments(problem), (*halves, 0), address(rows))
    return rows, student, teacher


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    problem, out = readable(problem), empty_statistics(problem)
    extension().soft_cross_entropy_forward(*arguments(problem), tuple(map(address, out)), 0)
    return out


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S tensors (B, K), which may be the students themselves.
    """
    problem, row_grad = readable(problem), row_grad.contiguous()
    extension().soft_cross_entropy_backward(
        *arguments(problem),
        tuple(map(address, statistics)),
        address(row_grad),
        list(map(matrix, out)),
    )


def product(a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> None:
    """out (+)= a b, in float32."""
    x, y = ((matrix(z), 0, 0, 0, False) for z in (a, b))
    threads = torch.get_num_threads()
    extension().standardized_product(x, y, False, threads, address(out), out.stride(0), accumulate)


def arguments(problem: Problem) -> tuple[Any, ...]:
    """The arguments of the extension."""
    teacher, pairs = problem.teacher_temperature, problem.pairs
    return (
        list(map(matrix, problem.student)),
        list(map(matrix, problem.teacher)),
        (address(problem.center), *problem.center_steps()),
        (0, *pairs) if isinstance(pairs, Pairs) else (address(pairs), 0.0, True),
        1 / float(problem.student_temperature),
        1.0 if teacher is None else 1 / float(teacher),
        teacher is None,
        torch.get_num_threads(),
    )
