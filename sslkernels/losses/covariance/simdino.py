"""SimDINO: agreement of teacher and student, with a large coding rate of the student's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from ..._checks import (
    check_devices,
    check_flags,
    check_integers,
    check_numbers,
    check_positive,
    check_sequence,
    check_tensors,
)
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, mean_over_ranks, rows_of_all_ranks, scale_gradient
from .._common import Gathering, GatheringLoss, check_embeddings, unit
from .coding_rate import coding_rate


def simdino(
    *,
    student: Tensor,
    teacher: Tensor,
    eps: float = 0.5,
    coeff: float = 1.0,
    expa_type: int = 0,
    gather: Gather | None = None,
) -> Tensor:
    """SimDINO (Wu et al. 2025, arXiv:2502.10385): ``−coeff · agreement − expansion``.

    The agreement is the mean cosine of teacher view t and student view s over all images and all
    pairs with t ≠ s; the expansion is the mean over views v < T of
    ``(D + N)/(D N) · coding_rate(W_v, eps)``. Nothing is detached: the teacher's features should
    come without gradient, as in the authors' code.

    Args:
        student: (S, N, D), features of all views, starting with the T views of the teacher. The
            cosine normalises them; the expansion does not (SimDINO's head normalises).
        teacher: (T, N, D), T at most S.
        eps: above 0, see :func:`sslkernels.functional.coding_rate`.
        coeff: weight of the agreement.
        expa_type: 0 expands ``W_v = student[v]``; 1 expands ``(student[v] + teacher[v]) / 2``.
        gather: the ranks whose images form one batch of N; the authors' ``reduce_cov=1``.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    return _simdino(student, teacher, eps, coeff, expa_type, gather)[0]


class SimDINOLoss(GatheringLoss):
    """``MCRLoss`` of SimDINO's ``main_dino.py``: its constructor, defaults and results.

    Formula: :func:`sslkernels.functional.simdino`. The authors' ``reduce_cov=1`` is
    ``gather_distributed=True``. Their ``reduce_cov=0`` is the loss of each rank's own batch, as
    here without ``gather_distributed``, except that they still divide by the rows of all ranks.

    Args:
        ncrops: S, the student's views of an image; the teacher has 2.
        expa_type, eps, coeff: see :func:`sslkernels.functional.simdino`.
        gather_distributed: compute the expansion over all ranks' features.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``ncrops`` below 2, ``expa_type`` not 0 or 1, or ``eps`` not above 0.
    """

    def __init__(
        self,
        ncrops: int,
        *,
        expa_type: int = 0,
        eps: float = 0.5,
        coeff: float = 1.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_integers(2, ncrops=ncrops)
        _check_numbers(eps, coeff, expa_type)
        self.ncrops, self.expa_type, self.eps, self.coeff = ncrops, expa_type, eps, coeff

    def forward(self, student_feat: Tensor, teacher_feat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, and the agreement and the expansion without gradient.

        Args:
            student_feat: (ncrops · N, D), one view after the other.
            teacher_feat: (2N, D).
        """
        student, teacher = (
            _views(name, x, views)
            for name, x, views in (
                ("student_feat", student_feat, self.ncrops),
                ("teacher_feat", teacher_feat, 2),
            )
        )
        if student.shape[1] != teacher.shape[1]:
            raise ValueError(
                f"student_feat must be ncrops={self.ncrops} views of the teacher's images, "
                f"got {tuple(student_feat.shape)} and {tuple(teacher_feat.shape)}"
            )
        loss, agreement, expansion = _simdino(
            student, teacher, self.eps, self.coeff, self.expa_type, self.gather
        )
        return loss, agreement.detach(), expansion.detach()


class SimDINOv2Loss(GatheringLoss):
    """``MCRLoss`` of SimDINOv2's ``dino_clstoken_loss.py``: its defaults and results.

    As :class:`sslkernels.SimDINOLoss` (which explains ``reduce_cov``), but both terms use
    unit vectors. There is no ``center``.

    Args:
        out_dim: D, features of an embedding.
        expa_type, eps, coeff: see :func:`sslkernels.functional.simdino`.
        gather_distributed: compute the expansion over all ranks' features.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``expa_type`` not 0 or 1, or ``eps`` not above 0.
    """

    def __init__(
        self,
        out_dim: int,
        *,
        expa_type: int = 0,
        eps: float = 0.05,
        coeff: float = 1.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_integers(1, out_dim=out_dim)
        _check_numbers(eps, coeff, expa_type)
        self.out_dim, self.expa_type, self.eps, self.coeff = out_dim, expa_type, eps, coeff

    def forward(
        self,
        student_feat_list: Sequence[Tensor],
        teacher_feat_list: Sequence[Tensor],
        no_diag: bool = True,
        normalized: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and, without gradient, its terms: ``loss``, ``comp_loss``,
        ``global_comp_loss`` (the agreement over the teacher's views alone: the sum of the views'
        means, divided by T) and ``expa_loss``.

        Args:
            student_feat_list: S tensors (N, D), starting with the teacher's views.
            teacher_feat_list: T tensors (N, D).
            no_diag: leave out pairs of one view with itself.
            normalized: the features are unit vectors already; False normalises them.
        """
        check_flags(no_diag=no_diag, normalized=normalized)
        student, teacher = (
            _stacked(name, x)
            for name, x in (
                ("student_feat_list", student_feat_list),
                ("teacher_feat_list", teacher_feat_list),
            )
        )
        _check(student, teacher)
        if student.shape[-1] != self.out_dim:
            raise ValueError(
                f"features must have out_dim={self.out_dim} columns, got {student.shape[-1]}"
            )
        with full_precision(student):
            student, teacher = (x.to(accumulation_dtype(x)) for x in (student, teacher))
            if not normalized:
                student, teacher = _unit(student), _unit(teacher)
            views = len(teacher)
            agreement = _agreement(student, teacher, no_diag, self.gather)
            globally = _agreement(student[:views].detach(), teacher.detach(), no_diag, self.gather)
            globally = globally * (views - 1 if no_diag else views)
            expansion = _expansion(student, teacher, self.eps, self.expa_type, self.gather)
            loss = -self.coeff * agreement - expansion
        terms = {"loss": loss, "comp_loss": agreement, "global_comp_loss": globally}
        terms["expa_loss"] = expansion
        return loss, {name: x.detach() for name, x in terms.items()}


def _simdino(
    student: Tensor,
    teacher: Tensor,
    eps: float,
    coeff: float,
    expa_type: int,
    gather: Gather | None,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_numbers(eps, coeff, expa_type)
    _check(student, teacher)
    with full_precision(student):
        student, teacher = (x.to(accumulation_dtype(x)) for x in (student, teacher))
        agreement = _agreement(_unit(student), _unit(teacher), True, gather)
        expansion = _expansion(student, teacher, eps, expa_type, gather)
        return -coeff * agreement - expansion, agreement, expansion


def _agreement(
    student: Tensor, teacher: Tensor, other_views: bool, gather: Gather | None
) -> Tensor:
    """Mean ⟨t, s⟩ over images and pairs of views; ``other_views`` leaves out pairs of one view."""
    student, teacher = scale_gradient(student, gather), scale_gradient(teacher, gather)
    views, pairs = len(teacher), len(teacher) * len(student)
    partners = student.sum(0)  # (N, D), or (T, N, D) without the own view
    if other_views:
        partners, pairs = partners - student[:views], pairs - views
    rows = (teacher * partners).sum((0, 2))
    return mean_over_ranks(rows, gather) / max(1, pairs)


def _expansion(
    student: Tensor, teacher: Tensor, eps: float, expa_type: int, gather: Gather | None
) -> Tensor:
    views, _, d = teacher.shape
    features = student[:views]
    if expa_type == 1:
        features = (features + teacher) / 2
    n = rows_of_all_ranks(features[0], gather)
    return sum(coding_rate(x, eps, gather=gather) for x in features) / views * ((d + n) / (d * n))


def _unit(x: Tensor) -> Tensor:
    return unit(x.flatten(0, 1)).view_as(x)


def _stacked(name: str, views: Sequence[Tensor]) -> Tensor:
    if isinstance(views, Tensor):
        check_tensors(**{name: views})
        if views.dim() != 3 or 0 in views.shape:
            raise ValueError(f"{name} must be (views, N, D), got {tuple(views.shape)}")
    else:
        check_sequence(name, views)
        if not views:
            raise ValueError(f"{name} must hold the features of some views, got none")
        check_embeddings(**{f"{name}[{i}]": x for i, x in enumerate(views)})
    return torch.stack(tuple(views))


def _views(name: str, x: Tensor, views: int) -> Tensor:
    check_tensors(**{name: x})
    if x.dim() != 2 or len(x) % views or 0 in x.shape:
        raise ValueError(f"{name} must be ({views} N, D), got {tuple(x.shape)}")
    return x.unflatten(0, (views, -1))


def _check(student: Tensor, teacher: Tensor) -> None:
    check_tensors(student=student, teacher=teacher)
    check_devices(student=student, teacher=teacher)
    shapes = tuple(student.shape), tuple(teacher.shape)
    if student.dim() != 3 or teacher.dim() != 3 or shapes[0][1:] != shapes[1][1:] or 0 in shapes[0]:
        raise ValueError(
            f"student must be (S, N, D) and teacher (T, N, D), got {shapes[0]} and {shapes[1]}"
        )
    if not (1 <= len(teacher) <= len(student) and len(student) >= 2):
        raise ValueError(
            "student needs at least 2 views, and those of the teacher among them; "
            f"got {len(student)} and {len(teacher)}"
        )
    if student.dtype != teacher.dtype:
        raise TypeError(
            f"student and teacher must have one dtype, got {student.dtype} and {teacher.dtype}"
        )


def _check_numbers(eps: float, coeff: float, expa_type: int) -> None:
    check_positive(eps=eps)
    check_numbers(coeff=coeff)
    check_integers(0, 1, expa_type=expa_type)
