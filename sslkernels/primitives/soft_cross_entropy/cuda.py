"""CUDA C++: a cluster of blocks processes a row of every view. Opt-in: ``impl="cuda"``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..._ext import address, extension, matrix, stream
from .cpu import arguments
from .problem import Problem, Statistics, empty_statistics, readable, summary
from .tiled import product as product

MOST_TEACHERS = 4


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies (S, B), and the maximum and sum of the students' and teachers' rows."""
    return summary(problem, reduce(problem))


def reduce(problem: Problem) -> Statistics:
    """The statistics of every row."""
    problem, out = _prepared(problem), empty_statistics(problem)
    extension(cuda=True).cuda_soft_cross_entropy_forward(
        *arguments(problem), tuple(map(address, out)), stream(problem.student[0])
    )
    return out


def weigh(
    problem: Problem, statistics: Statistics, row_grad: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradient of every student, for (S, B) gradients of the rows.

    ``out``: S tensors (B, K), which may be the students themselves.
    """
    problem, row_grad = _prepared(problem), row_grad.contiguous()
    extension(cuda=True).cuda_soft_cross_entropy_backward(
        *arguments(problem),
        tuple(map(address, statistics)),
        address(row_grad),
        list(map(matrix, out)),
        stream(row_grad),
    )


def _prepared(problem: Problem) -> Problem:
    if len(problem.teacher) > MOST_TEACHERS:
        raise ValueError(
            f"impl='cuda' takes up to {MOST_TEACHERS} teachers, got {len(problem.teacher)}; "
            "use impl='triton'"
        )
    return readable(problem)
