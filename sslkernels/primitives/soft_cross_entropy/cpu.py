"""The C++ kernels: every logit is read once, for all the views that its row meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .problem import Problem, Statistics, empty_statistics, readable, summary


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies (S, B), and of the students' and the teachers' rows maximum and sum."""
    return summary(problem, reduce(problem))


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    problem, out = readable(problem), empty_statistics(problem)
    extension().soft_cross_entropy_forward(*arguments(problem), tuple(map(address, out)))
    return out


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S of (B, K); they may be the students themselves.
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
    """The problem as the extension takes it."""
    temperature = problem.teacher_temperature
    return (
        list(map(matrix, problem.student)),
        list(map(matrix, problem.teacher)),
        (address(problem.center), *problem.center_steps()),
        address(problem.matrix),
        1 / problem.student_temperature,
        1.0 if temperature is None else 1 / temperature,
        temperature is None,
        torch.get_num_threads(),
    )
