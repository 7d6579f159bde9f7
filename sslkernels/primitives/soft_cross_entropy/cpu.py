"""The C++ kernels: every logit is read once, for all the views that its row meets."""

from __future__ import annotations

from collections.abc import Sequence

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
    a, b = ((matrix(x), 0, 0, 0, False) for x in (a, b))
    threads = torch.get_num_threads()
    extension().standardized_product(a, b, False, threads, address(out), out.stride(0), accumulate)


def arguments(problem: Problem) -> tuple:
    """The problem as the extension takes it."""
    probabilities = problem.teacher_temperature is None
    return (
        list(map(matrix, problem.student)),
        list(map(matrix, problem.teacher)),
        (address(problem.center), *problem.center_steps()),
        address(problem.pairs),
        1 / problem.student_temperature,
        1.0 if probabilities else 1 / problem.teacher_temperature,
        probabilities,
        torch.get_num_threads(),
    )
