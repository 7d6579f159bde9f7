"""CAPI: the student predicts the teacher's clusters of patches, balanced at each position."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import (
    MOST_ITERATIONS,
    check_devices,
    check_integers,
    check_positive,
    check_tensors,
    shown,
)
from ...distributed import Gather, scale_gradient
from ...primitives.sinkhorn import sinkhorn
from ...primitives.soft_cross_entropy import soft_cross_entropy
from .._common import Gathering, GatheringLoss, mean_loss


def capi(
    *,
    teacher: Tensor,
    student: Tensor,
    index: Tensor | None = None,
    teacher_temperature: float = 0.06,
    student_temperature: float = 0.12,
    iterations: int = 3,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """CAPI (Darcet et al. 2025, arXiv:2502.08769): the mean cross-entropy between predictions and
    Sinkhorn-Knopp assignments, which are balanced over the batch at each position separately.

    Args:
        teacher: (B, N, K), logits of all tokens; detached here.
        student: (B, M, K), logits of the predicted tokens.
        index: (B, M), int64: the teacher's token that each one predicts. None: M = N, in order.
        teacher_temperature, student_temperature: above 0.
        iterations: of Sinkhorn-Knopp, see :func:`sslkernels.sinkhorn`.
        gather: the ranks over whose tokens assignments are balanced and the mean is taken.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    _check(teacher, student, index)
    check_positive(teacher_temperature=teacher_temperature, student_temperature=student_temperature)
    teacher = teacher.detach()
    options: dict[str, Any] = {"gather": gather, "impl": impl}
    centers = sinkhorn(
        teacher.transpose(0, 1), teacher_temperature, iterations, **options
    )  # (N, K)
    if index is None:
        targets, center = teacher.flatten(0, 1), centers[None]  # row i takes centre i mod N
    else:
        image = torch.arange(len(teacher), device=teacher.device)[:, None]
        targets, center = (teacher[image, index] - centers[index]).flatten(0, 1), None
    rows = soft_cross_entropy(
        scale_gradient(student, gather).flatten(0, 1),
        targets,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        center=center,
        impl=impl,
    )
    return mean_loss(rows, student, gather)


class CAPILoss(GatheringLoss):
    """CAPI as a module: lightly's constructor, defaults and results, except that lightly adds 1e-8
    to the sums that Sinkhorn-Knopp divides by.

    Formula and shapes: :func:`sslkernels.functional.capi`. The teacher's prototypes are trained
    with the same loss, with the teacher's logits in place of the student's.

    Args:
        teacher_temperature, student_temperature, sinkhorn_iterations: see
            :func:`sslkernels.functional.capi`.
        gather_distributed: balance assignments over all ranks' batches.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        teacher_temperature: float = 0.06,
        student_temperature: float = 0.12,
        sinkhorn_iterations: int = 3,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_positive(
            teacher_temperature=teacher_temperature, student_temperature=student_temperature
        )
        check_integers(1, MOST_ITERATIONS, sinkhorn_iterations=sinkhorn_iterations)
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature
        self.sinkhorn_iterations = sinkhorn_iterations

    def forward(
        self, teacher_logits: Tensor, student_logits: Tensor, teacher_index: Tensor | None = None
    ) -> Tensor:
        """Return the loss of logits (B, N, K) and (B, M, K), paired by ``teacher_index`` (B, M)."""
        return capi(
            teacher=teacher_logits,
            student=student_logits,
            index=teacher_index,
            teacher_temperature=self.teacher_temperature,
            student_temperature=self.student_temperature,
            iterations=self.sinkhorn_iterations,
            gather=self.gather,
            impl=self.impl,
        )


def _check(teacher: Tensor, student: Tensor, index: Tensor | None) -> None:
    check_tensors(teacher=teacher, student=student)
    check_devices(teacher=teacher, student=student)
    shapes = tuple(teacher.shape), tuple(student.shape)
    if teacher.dim() != 3 or student.dim() != 3 or shapes[0][::2] != shapes[1][::2]:
        raise ValueError(
            f"teacher must be (B, N, K) and student (B, M, K), got {shapes[0]} and {shapes[1]}"
        )
    if index is None:
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"without index, student must have the teacher's shape {shapes[0]}, got {shapes[1]}"
            )
    elif not isinstance(index, Tensor):
        raise TypeError(f"index must be a torch.Tensor or None, got {shown(index)}")
    elif index.dtype != torch.int64 or tuple(index.shape) != shapes[1][:2]:
        raise ValueError(
            f"index must be int64 (B, M) = {shapes[1][:2]}, got {index.dtype} {tuple(index.shape)}"
        )
    else:
        check_devices(teacher=teacher, index=index)
        if index.is_cpu and not torch.compiler.is_compiling():
            low, high = (int(x) for x in index.aminmax())
            if low < 0 or high >= shapes[0][1]:
                raise ValueError(f"index must be in 0..{shapes[0][1] - 1}, got {low} and {high}")
