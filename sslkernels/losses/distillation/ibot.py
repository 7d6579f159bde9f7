"""iBOT: at masked patches, the student predicts the teacher's output for the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..._checks import (
    check_choice,
    check_dense,
    check_devices,
    check_positive,
    check_tensors,
    shown,
)
from ..._operator import accumulation_dtype
from ...distributed import Gather, scale_gradient, share_of_mean
from .._common import mean_loss
from .centered import CenteredLoss
from .views import Prototypes, cross_entropies

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

NORMALIZATIONS = ("image", "patch")


def ibot(
    *,
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    student_temp: float = 0.1,
    teacher_temp: float = 0.04,
    center: Tensor | None = None,
    normalization: str = "image",
    prototypes: Prototypes | None = None,
    teacher_prototypes: Prototypes | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """The patch loss of iBOT (Zhou et al. 2022, arXiv:2111.07832), DINOv2 and DINOv3: the mean
    cross-entropy of teacher and student over masked patches.

    Args:
        student: (M, K), logits at the masked patches, image by image in the order of ``mask``.
        teacher: (M, K), the teacher's logits at the same patches; detached here.
        mask: (B, H, W) or (B, N), bool: the M masked patches.
        student_temp, teacher_temp, center: see :func:`sslkernels.functional.dino`.
        normalization: ``"image"``: the mean over an image's masked patches, then over the B images
            (iBOT, DINOv2, lightly; an image without masked patches counts as 0). ``"patch"``: the
            mean over all masked patches.
        prototypes, teacher_prototypes: see :func:`sslkernels.functional.dino`; student and teacher
            are then features (M, D).
        gather: the ranks whose images are included in the mean.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; a mask that does not
            select M ≥ 1 patches. (On CUDA the mask is not checked, which would synchronise: the
            loss is NaN if it selects another number.)
    """
    check_choice("normalization", normalization, NORMALIZATIONS)
    weights = patch_weights(mask, student)
    rows = cross_entropies(
        scale_gradient(student, gather),
        teacher,
        prototypes,
        teacher_prototypes,
        student_temperature=student_temp,
        teacher_temperature=teacher_temp,
        center=center,
        impl=impl,
    )
    if normalization == "patch":
        return mean_loss(torch.where(weights.isnan(), weights, rows), student, gather)
    return share_of_mean((rows * weights).sum(), len(mask), gather).to(accumulation_dtype(student))


def patch_weights(mask: Tensor, student: Tensor) -> Tensor:
    """(M,): for each masked patch, one over the number of masked patches of its image."""
    check_tensors(student=student)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool torch.Tensor, got {shown(mask)}")
    check_dense(mask=mask)
    check_devices(student=student, mask=mask)
    if mask.dim() < 2 or student.dim() != 2:
        raise ValueError(
            "mask must be (B, H, W) or (B, N) and student (M, K), a row for each masked patch; got "
            f"{tuple(mask.shape)} and {tuple(student.shape)}"
        )
    masked = mask.flatten(1).sum(1)
    patches = len(student)
    if not mask.is_cuda and not torch.compiler.is_compiling() and int(masked.sum()) != patches:
        raise ValueError(
            f"mask selects {int(masked.sum())} patches of {len(mask)} images, but student has "
            f"{patches} rows: one is needed for each"
        )
    if patches == 0:
        raise ValueError("mask selects no patch: there is nothing to predict; leave the loss out")
    ends, order = masked.cumsum(0), torch.arange(patches, device=mask.device)
    image = torch.searchsorted(ends, order, right=True).clamp(max=len(mask) - 1)
    weights = 1 / masked.clamp(min=1).to(accumulation_dtype(student))
    return weights[image].where(ends[-1] == patches, float("nan"))


class IBOTPatchLoss(CenteredLoss):
    """The patch loss of iBOT with its centre: lightly's constructor, defaults and results.

    Formula and shapes: :func:`sslkernels.functional.ibot`. After the loss, in training mode, the
    centre moves towards the mean of the teacher's logits over all ranks.

    Args:
        output_dim: K, the number of prototypes.
        teacher_temp: the teacher's temperature, where none is given.
        student_temp: the student's temperature.
        center_mode: ``"mean"``, or ``"sinkhorn"``: three iterations of Sinkhorn-Knopp over all
            masked patches, as in DINOv2's larger models.
        center_momentum: m of ``center = m · center + (1 − m) · mean``.
        normalization: see :func:`sslkernels.functional.ibot`.
        group: the process group of the ranks that share a centre; None means all ranks.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Attributes:
        center: (1, K), saved with checkpoints.

    Raises:
        ValueError: an unknown ``center_mode`` or ``normalization``, or a number out of its range.
    """

    def __init__(
        self,
        output_dim: int = 65536,
        teacher_temp: float = 0.04,
        student_temp: float = 0.1,
        center_mode: str = "mean",
        center_momentum: float = 0.9,
        *,
        normalization: str = "image",
        group: ProcessGroup | None = None,
        impl: str = "auto",
    ) -> None:
        shape = (1, output_dim)
        super().__init__(shape, center_momentum, center_mode, Gather(group=group), impl)
        check_choice("normalization", normalization, NORMALIZATIONS)
        check_positive(student_temp=student_temp, teacher_temp=teacher_temp)
        self.student_temp, self.teacher_temp = student_temp, teacher_temp
        self.normalization = normalization

    def forward(
        self,
        teacher_out: Tensor,
        student_out: Tensor,
        mask: Tensor,
        teacher_temp: float | None = None,
        *,
        prototypes: Prototypes | None = None,
        teacher_prototypes: Prototypes | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            teacher_out: (M, K), the teacher's logits at the masked patches, image by image.
            student_out: (M, K), the student's logits.
            mask: (B, H, W) or (B, N), bool: the M masked patches.
            teacher_temp: the teacher's temperature; None: that of the constructor.
            prototypes, teacher_prototypes: for features instead of logits, see
                :func:`sslkernels.functional.dino`.
        """
        teacher_temp = self.teacher_temp if teacher_temp is None else teacher_temp
        check_tensors(teacher_out=teacher_out, student_out=student_out)
        if teacher_out.shape != student_out.shape or teacher_out.dim() != 2:
            raise ValueError(
                "teacher_out and student_out must have the same shape (M, K), "
                f"got {tuple(teacher_out.shape)} and {tuple(student_out.shape)}"
            )
        patch_weights(mask, student_out)  # checks the mask before the teacher's rows are used
        loss = ibot(
            student=student_out,
            teacher=teacher_out,
            mask=mask,
            student_temp=self.student_temp,
            teacher_temp=teacher_temp,
            center=self._center(teacher_out, teacher_temp, teacher_prototypes),
            normalization=self.normalization,
            prototypes=prototypes,
            teacher_prototypes=teacher_prototypes,
            gather=self.gather,
            impl=self.impl,
        )
        if self.training and self.center_mode == "mean":
            self.update_center(teacher_out, teacher_prototypes)
        return loss
