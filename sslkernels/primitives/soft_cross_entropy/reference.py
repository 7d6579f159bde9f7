"""The definition, in plain torch. With float64 inputs it is the oracle of the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._operator import full_precision
from .problem import Problem


def soft_cross_entropy_reference(problem: Problem) -> Tensor:
    """Materialise every distribution. Computes in ``promote_types(dtype, float32)``."""
    student = torch.stack([x.to(problem.dtype) for x in problem.student])  # (S, B, K)
    teacher = torch.stack([x.to(problem.dtype) for x in problem.teacher])  # (T, B, K)
    with full_precision(student):
        if problem.teacher_temperature is not None:
            if problem.center is not None:
                teacher = in_turn(teacher, problem.center) - problem.center[:, None]
                teacher = teacher.flatten(1, 2)
            teacher = F.softmax(teacher / problem.teacher_temperature, dim=2)
        logs = F.log_softmax(student / problem.student_temperature, dim=2)
        return -torch.einsum("st,tbk,sbk->sb", problem.pairs, teacher, logs)


def in_turn(x: Tensor, center: Tensor) -> Tensor:
    """(T, B, K) as (T, B / C, C, K), for rows that use C centres in turn."""
    return x.unflatten(1, (-1, center.shape[1]))
