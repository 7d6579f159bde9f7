"""The input of every implementation, and the row statistics that they have to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._operator import accumulation_dtype


class Pairs(NamedTuple):
    """A rule for the weights of pairs: ``weight``, or 0 for pairs of the same view unless ``same``.
    Kernels then need no matrix."""

    weight: float
    same: bool = True

    def matrix(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
        """(S, T)."""
        out = torch.full(shape, self.weight, dtype=dtype, device=device)
        return out if self.same else out.fill_diagonal_(0)


class Problem(NamedTuple):
    """Every student row with the same row of every teacher."""

    student: Sequence[Tensor]  # S of (B, K)
    teacher: Sequence[Tensor]  # T of (B, K)
    center: Tensor | None  # (1 or T, 1 or C, K): row b uses b mod C
    pairs: Tensor | Pairs  # (S, T), in the dtype of computation
    student_temperature: float | Tensor  # () float64, if only a device knows it
    teacher_temperature: float | Tensor | None  # None: the teacher's rows are probabilities
    dtype: torch.dtype  # of computation

    @property
    def matrix(self) -> Tensor:
        """``pairs``, in implementations that do not support a rule."""
        assert isinstance(self.pairs, Tensor)
        return self.pairs

    def part(self, columns: slice) -> Problem:
        """The problem for some of the prototypes."""
        center = None if self.center is None else self.center[..., columns]
        return self._replace(
            student=[x[:, columns] for x in self.student],
            teacher=[x[:, columns] for x in self.teacher],
            center=center,
        )

    def center_steps(self) -> tuple[int, int, int]:
        """Strides between the teachers' centres and between those of rows, and their number."""
        center = self.center
        if center is None:
            return 0, 0, 1
        view, step = (center.stride(i) if center.shape[i] > 1 else 0 for i in (0, 1))
        return view, step, center.shape[1]


class Statistics(NamedTuple):
    """The maximum of each row's scaled logits and the sum of e^(logit - maximum).

    For probabilities, the teacher's maximum is 0, and its sum theirs. ``cost`` sums the teacher's
    terms times the student's maximum minus its logit: no term is negative, so nothing cancels.
    """

    student_max: Tensor  # (S, B)
    student_sum: Tensor
    teacher_max: Tensor  # (T, B)
    teacher_sum: Tensor
    cost: Tensor  # (S, T, B)


def readable(problem: Problem) -> Problem:
    """The problem with contiguous rows."""
    center = problem.center
    return problem._replace(
        student=[_rows_contiguous(x) for x in problem.student],
        teacher=[_rows_contiguous(x) for x in problem.teacher],
        center=None if center is None else _rows_contiguous(center),
        pairs=problem.pairs if isinstance(problem.pairs, Pairs) else problem.pairs.contiguous(),
    )


def empty_statistics(problem: Problem) -> Statistics:
    """Uninitialised statistics."""
    students, teachers, rows = len(problem.student), len(problem.teacher), len(problem.student[0])
    shapes = [(students, rows)] * 2 + [(teachers, rows)] * 2 + [(students, teachers, rows)]
    like = problem.student[0]
    return Statistics(*(like.new_empty(shape, dtype=problem.dtype) for shape in shapes))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of the prototypes of a and b together."""
    student_max = torch.maximum(a.student_max, b.student_max)
    teacher_max = torch.maximum(a.teacher_max, b.teacher_max)
    sums = []
    for x in (a, b):
        shift = student_max - x.student_max
        kept = torch.exp(x.teacher_max - teacher_max)
        cost = kept * (x.cost + shift[:, None] * x.teacher_sum)
        sums.append((x.student_sum * torch.exp(-shift), x.teacher_sum * kept, cost))
    student_sum, teacher_sum, cost = (x + y for x, y in zip(*sums, strict=True))
    return Statistics(student_max, student_sum, teacher_max, teacher_sum, cost)


def cross_entropies(problem: Problem, statistics: Statistics) -> Tensor:
    """(S, B): each student row's cross-entropies with the teachers, weighted by ``pairs``."""
    logarithms, mass = statistics.student_sum.log()[:, None], statistics.teacher_sum
    if problem.teacher_temperature is None:
        entropies = mass * logarithms + statistics.cost
    else:
        entropies = logarithms + statistics.cost / mass
    pairs = problem.pairs
    if isinstance(pairs, Pairs):
        pairs = pairs.matrix(statistics.cost.shape[:2], entropies.device, entropies.dtype)
    return counted(pairs[:, :, None], entropies).sum(1)


def summary(problem: Problem, statistics: Statistics) -> tuple[Tensor, Tensor, Tensor]:
    """The cross-entropies, and the statistics that a backward pass needs."""
    student_max, student_sum, teacher_max, teacher_sum, _ = statistics
    return (
        cross_entropies(problem, statistics),
        torch.stack([student_max, student_sum]),
        torch.stack([teacher_max, teacher_sum]),
    )


def counted(pairs: Tensor, x: Tensor) -> Tensor:
    """pairs · x; 0 for pairs with weight 0, whatever x is."""
    return torch.where(pairs == 0, 0, pairs * x)


def dtype_of(student: Tensor, teacher: Tensor) -> torch.dtype:
    """The dtype of computation for both."""
    return torch.promote_types(accumulation_dtype(student), teacher.dtype)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
