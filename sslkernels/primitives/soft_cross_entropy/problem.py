"""What every implementation is asked, and the statistics of rows that are all it needs to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._operator import accumulation_dtype


class Pairs(NamedTuple):
    """How much each student counts each teacher: ``weight``; without ``same``, the teacher of its
    own index not at all. Kernels then need no matrix."""

    weight: float
    same: bool = True

    def matrix(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
        """(S, T)."""
        out = torch.full(shape, self.weight, dtype=dtype, device=device)
        return out if self.same else out.fill_diagonal_(0)


class Problem(NamedTuple):
    """Every student row against the same row of every teacher."""

    student: Sequence[Tensor]  # S of (B, K)
    teacher: Sequence[Tensor]  # T of (B, K)
    center: Tensor | None  # (1 or T, 1 or C, K): rows take the C in turn
    pairs: Tensor | Pairs  # (S, T), in the dtype of computation
    student_temperature: float | Tensor  # () float64, if only a device knows it
    teacher_temperature: float | Tensor | None  # None: the teacher's rows are probabilities
    dtype: torch.dtype  # of computation

    @property
    def matrix(self) -> Tensor:
        """``pairs`` of those who asked for no rule."""
        assert isinstance(self.pairs, Tensor)
        return self.pairs

    def part(self, columns: slice) -> Problem:
        """The same of some prototypes."""
        center = None if self.center is None else self.center[..., columns]
        return self._replace(
            student=[x[:, columns] for x in self.student],
            teacher=[x[:, columns] for x in self.teacher],
            center=center,
        )

    def center_steps(self) -> tuple[int, int, int]:
        """Strides between the teachers' centres and between those that rows take, and how many."""
        center = self.center
        if center is None:
            return 0, 0, 1
        view, step = (center.stride(i) if center.shape[i] > 1 else 0 for i in (0, 1))
        return view, step, center.shape[1]


class Statistics(NamedTuple):
    """Of each row's scaled logits the maximum and the sum of e^(logit - maximum).

    A teacher of probabilities has maximum 0 and their sum. ``cost`` sums the teacher's terms, each
    times the student's maximum less its logit: no term is negative, so nothing cancels.
    """

    student_max: Tensor  # (S, B)
    student_sum: Tensor
    teacher_max: Tensor  # (T, B)
    teacher_sum: Tensor
    cost: Tensor  # (S, T, B)


def readable(problem: Problem) -> Problem:
    """With rows that lie in one piece."""
    center = problem.center
    return problem._replace(
        student=[_rows_contiguous(x) for x in problem.student],
        teacher=[_rows_contiguous(x) for x in problem.teacher],
        center=None if center is None else _rows_contiguous(center),
        pairs=problem.pairs if isinstance(problem.pairs, Pairs) else problem.pairs.contiguous(),
    )


def empty_statistics(problem: Problem) -> Statistics:
    """Memory for them."""
    students, teachers, rows = len(problem.student), len(problem.teacher), len(problem.student[0])
    shapes = [(students, rows)] * 2 + [(teachers, rows)] * 2 + [(students, teachers, rows)]
    like = problem.student[0]
    return Statistics(*(like.new_empty(shape, dtype=problem.dtype) for shape in shapes))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Of prototypes in a or in b."""
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
    """(S, B): each student row's cross-entropies with the teachers, weighed by ``pairs``."""
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
    """pairs · x; 0 where a pair does not count, whatever x is."""
    return torch.where(pairs == 0, 0, pairs * x)


def dtype_of(student: Tensor, teacher: Tensor) -> torch.dtype:
    """In which the two are computed."""
    return torch.promote_types(accumulation_dtype(student), teacher.dtype)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
