"""DINO: the student's crops predict the teacher's output for other crops of the same image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._checks import check_flags, check_integers, check_positive, check_tensors
from ...distributed import Gather, ranks_of, scale_gradient
from ...primitives.soft_cross_entropy import Pairs
from .._common import mean_loss
from .centered import CenteredLoss
from .views import Prototypes, Views, count, cross_entropies

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def dino(
    *,
    student: Views,
    teacher: Views,
    student_temp: float = 0.1,
    teacher_temp: float = 0.04,
    center: Tensor | None = None,
    same_view: bool = False,
    prototypes: Prototypes | None = None,
    teacher_prototypes: Prototypes | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """DINO (Caron et al. 2021, arXiv:2104.14294): the mean cross-entropy over images and over pairs
    of a teacher's and a student's view, except pairs of the same view.

    This is also the loss on class tokens of DINOv2 (arXiv:2304.07193) and of DINOv3
    (arXiv:2508.10104, ``ignore_diagonal=True``). Shapes, dtypes and the teacher's distribution:
    :func:`sslkernels.soft_cross_entropy`.

    Args:
        student: logits of S views, (S, B, K) or S of (B, K), starting with the teacher's views.
        teacher: logits of T views, likewise; detached here.
        student_temp, teacher_temp: temperatures, above 0.
        center: subtracted from the teacher's logits; for DINOv2's Sinkhorn-Knopp centring, the
            result of :func:`sslkernels.sinkhorn` at the teacher's temperature. None: no centre.
        same_view: include pairs of the same view (DINOv3's ``ignore_diagonal=False``).
        prototypes: (K, D), or (prototypes, magnitude) under weight normalisation: then the views
            are features (…, D), and their logits are never stored
            (:func:`sslkernels.prototype_cross_entropy`).
        teacher_prototypes: the same for the teacher.
        gather: the ranks whose images are included in the mean.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; views that form no
            pair.
    """
    views = count("student", student), count("teacher", teacher)
    check_flags(same_view=same_view)
    terms = views[0] * views[1] - (0 if same_view else min(views))
    if terms == 0:
        raise ValueError(
            f"{views[0]} student and {views[1]} teacher views leave no pair of different views: "
            "give the student at least two, or same_view=True"
        )
    like = student[0]
    # one mean over all images, unless the ranks' counts have to be exchanged or torch.compile
    # would specialise on the number
    is_mean = ranks_of(gather) is None and not torch.compiler.is_compiling()
    images = like.shape[0] if is_mean else 1
    student = (
        scale_gradient(student, gather)
        if isinstance(student, Tensor)
        else [scale_gradient(x, gather) for x in student]
    )
    rows = cross_entropies(
        student,
        teacher,
        prototypes,
        teacher_prototypes,
        student_temperature=student_temp,
        teacher_temperature=teacher_temp,
        center=center,
        pairs=Pairs(1 / (terms * images), same_view),
        impl=impl,
    )
    return rows.sum() if is_mean else mean_loss(rows.sum(0), like, gather)


class DINOLoss(CenteredLoss):
    """DINO with its centre: lightly's constructor, defaults and results.

    Formula and shapes: :func:`sslkernels.functional.dino`. After the loss, in training mode, the
    centre moves towards the mean of the teacher's logits over all ranks.

    Args:
        output_dim: K, the number of prototypes.
        warmup_teacher_temp: the teacher's temperature at epoch 0.
        teacher_temp: after the warm-up, and where no epoch is given; usually 0.04 to 0.07.
        warmup_teacher_temp_epochs: epochs over which it rises linearly.
        student_temp: the student's temperature.
        center_momentum: m of ``center = m · center + (1 − m) · mean``.
        center_mode: ``"mean"``, or ``"sinkhorn"``: three iterations of Sinkhorn-Knopp over all rows
            of the teacher, as in DINOv2's larger models.
        group: the process group of the ranks that share a centre; None means all ranks.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Attributes:
        center: (1, 1, K), saved with checkpoints.

    Raises:
        ValueError: an unknown ``center_mode``, or a number out of its range.
    """

    def __init__(
        self,
        output_dim: int = 65536,
        warmup_teacher_temp: float = 0.04,
        teacher_temp: float = 0.04,
        warmup_teacher_temp_epochs: int = 30,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        center_mode: str = "mean",
        *,
        group: ProcessGroup | None = None,
        impl: str = "auto",
    ) -> None:
        _check_schedule(warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs)
        check_positive(student_temp=student_temp)
        shape = (1, 1, output_dim)
        super().__init__(shape, center_momentum, center_mode, Gather(group=group), impl)
        self.student_temp, self.teacher_temp = student_temp, teacher_temp
        self.warmup_teacher_temp = warmup_teacher_temp
        self.warmup_teacher_temp_epochs = warmup_teacher_temp_epochs
        self.teacher_temp_schedule: list[float] = torch.linspace(
            warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs,
            dtype=torch.float64, device="cpu",
        ).tolist()  # fmt: skip

    def forward(
        self,
        teacher_out: Views,
        student_out: Views,
        teacher_temp: float | None = None,
        epoch: int | None = None,
        *,
        prototypes: Prototypes | None = None,
        teacher_prototypes: Prototypes | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            teacher_out: logits of T views, a list of (B, K) or (T, B, K).
            student_out: logits of S views, starting with the teacher's views.
            teacher_temp: the teacher's temperature; None: that of ``epoch``.
            epoch: counted from 0; None: after the warm-up.
            prototypes, teacher_prototypes: for features instead of logits, see
                :func:`sslkernels.functional.dino`.
        """
        count("teacher_out", teacher_out)
        count("student_out", student_out)
        if teacher_temp is None:
            teacher_temp = self.temperature_at(epoch)
        loss = dino(
            student=student_out,
            teacher=teacher_out,
            student_temp=self.student_temp,
            teacher_temp=teacher_temp,
            center=self._center(teacher_out, teacher_temp, teacher_prototypes),
            prototypes=prototypes,
            teacher_prototypes=teacher_prototypes,
            gather=self.gather,
            impl=self.impl,
        )
        if self.training and self.center_mode == "mean":
            self.update_center(teacher_out, teacher_prototypes)
        return loss

    def temperature_at(self, epoch: int | None) -> float:
        """The teacher's temperature at an epoch."""
        if epoch is not None:
            check_integers(0, epoch=epoch)
        if epoch is not None and epoch < self.warmup_teacher_temp_epochs:
            return self.teacher_temp_schedule[epoch]
        return self.teacher_temp


class OfficialDINOLoss(DINOLoss):
    """``DINOLoss`` of DINO's ``main_dino.py``: its constructor, arguments and results.

    Args:
        out_dim: K, the number of prototypes.
        ncrops: S, the student's crops of an image; the first 2 are the teacher's.
        warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs: see
            :class:`sslkernels.DINOLoss`.
        nepochs: epochs of the training; the temperature is constant after its warm-up.
        student_temp, center_momentum, center_mode, group, impl: see
            :class:`sslkernels.DINOLoss`.

    Attributes:
        center: (1, K), saved with checkpoints.
    """

    def __init__(
        self,
        out_dim: int,
        ncrops: int,
        warmup_teacher_temp: float,
        teacher_temp: float,
        warmup_teacher_temp_epochs: int,
        nepochs: int,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        **options: Any,
    ) -> None:
        super().__init__(
            out_dim, warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, student_temp,
            center_momentum, **options,
        )  # fmt: skip
        check_integers(1, ncrops=ncrops)
        check_integers(0, nepochs=nepochs)
        self.center = self.center[0]
        self.out_dim = out_dim
        self.ncrops, self.nepochs = ncrops, nepochs

    def forward(  # type: ignore[override]
        self, student_output: Tensor, teacher_output: Tensor, epoch: int | None = None
    ) -> Tensor:
        """Return the loss of logits (ncrops · B, K) and (2B, K), one crop after the other."""
        views = []
        for name, x, crops in (
            ("teacher_output", teacher_output, 2),
            ("student_output", student_output, self.ncrops),
        ):
            check_tensors(**{name: x})
            if x.dim() != 2 or len(x) % crops or 0 in x.shape:
                raise ValueError(f"{name} must be ({crops} B, K), got {tuple(x.shape)}")
            views.append(x.unflatten(0, (crops, -1)))
        if views[0].shape[1] != views[1].shape[1]:
            raise ValueError(
                f"student_output must be ncrops={self.ncrops} crops of the teacher's images, "
                f"got {tuple(student_output.shape)} and {tuple(teacher_output.shape)}"
            )
        return super().forward(views[0], views[1], epoch=epoch)


def _check_schedule(warmup_teacher_temp: float, teacher_temp: float, epochs: int) -> None:
    check_positive(warmup_teacher_temp=warmup_teacher_temp, teacher_temp=teacher_temp)
    check_integers(0, 1_000_000, warmup_teacher_temp_epochs=epochs)
