"""Self-distillation losses of lightly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import losses
from ..._operator import accumulation_dtype
from ...distributed import Gather
from ...losses import ibot
from ...losses.distillation.views import Prototypes, Views
from ...primitives import soft_cross_entropy
from ..distillation import MeanOfRanks, koleo_of_one, without_iterations
from ..peer import ShowsArguments, leave_gradients, promoted
from .contrastive import SaysIfGathering


class DINOLoss(MeanOfRanks, losses.DINOLoss):
    """``lightly.loss.DINOLoss``: the centre is updated in evaluation mode too."""

    def forward(
        self,
        teacher_out: Tensor | Sequence[Tensor],
        student_out: Tensor | Sequence[Tensor],
        teacher_temp: float | None = None,
        epoch: int | None = None,
        **prototypes,
    ) -> Tensor:
        """Return the loss of logits: T views (B, K) of the teacher, S of the student."""
        leave_gradients(self, *teacher_out)
        loss = super().forward(teacher_out, student_out, teacher_temp, epoch, **prototypes)
        if not self.training:
            self.update_center(teacher_out, prototypes.get("teacher_prototypes"))
        return loss

    def update_center(self, teacher_out: Views, prototypes: Prototypes | None = None) -> None:
        """Start the update with a batch: logits (T, B, K) or a list of (B, K)."""
        if isinstance(teacher_out, Tensor) and teacher_out.dim() != 3:
            raise ValueError(f"teacher_out must be (T, B, K), got {tuple(teacher_out.shape)}")
        super().update_center(teacher_out, prototypes)


class Center(MeanOfRanks):
    """``lightly.models.modules.center.Center``, the module that holds the centre in checkpoints."""

    def __init__(self, size: tuple[int, ...], mode: str = "mean", momentum: float = 0.9) -> None:
        super().__init__(size, momentum, mode, Gather(), "auto")
        self.momentum = momentum

    @property
    def value(self) -> Tensor:
        """The centre, after the pending update."""
        self.apply_center_update()
        return self.center

    def update(self, x: Tensor) -> None:
        """Start the update with logits (…, K)."""
        self.update_center(x)

    def extra_repr(self) -> str:
        return f"{tuple(self.center.shape)}, momentum={self.momentum}"


class IBOTPatchLoss(ShowsArguments, nn.Module):
    """``lightly.loss.IBOTPatchLoss``: the centre is updated in evaluation mode too.

    Attributes:
        center: a module ``Center``, whose buffer ``center`` is (1, K).
    """

    def __init__(
        self,
        output_dim: int = 65536,
        teacher_temp: float = 0.04,
        student_temp: float = 0.1,
        center_mode: str = "mean",
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if center_mode != "mean":
            raise ValueError(f"center_mode must be 'mean', got {center_mode!r}")
        self.teacher_temp, self.student_temp = teacher_temp, student_temp
        self.output_dim, self.center_momentum = output_dim, center_momentum
        self.center = Center((1, output_dim), center_mode, center_momentum)

    def forward(
        self,
        teacher_out: Tensor,
        student_out: Tensor,
        mask: Tensor,
        teacher_temp: float | None = None,
    ) -> Tensor:
        """Return the loss of logits (M, K) at the patches that ``mask`` (B, H, W) selects; 0 if it
        selects none."""
        leave_gradients(self, teacher_out)
        if not len(student_out) and not mask.any():
            self.center.update(teacher_out)
            return 0 * student_out.sum(dtype=accumulation_dtype(student_out))
        loss = ibot(
            student=student_out,
            teacher=teacher_out,
            mask=mask,
            student_temp=self.student_temp,
            teacher_temp=self._temperature(teacher_temp),
            center=self.center.value,
        )
        self.center.update(teacher_out)
        return loss

    def _temperature(self, given: float | None) -> float:
        return self.teacher_temp if given is None else given


class IBOTPlusPlusPatchLoss(IBOTPatchLoss):
    """``lightly.loss.IBOTPlusPlusPatchLoss``: visible patches are predicted as well."""

    def forward(
        self,
        teacher_out: Tensor,
        student_out: Tensor,
        mask: Tensor | None = None,
        teacher_temp: float | None = None,
        visible_loss_weight: float = 1.0,
    ) -> Tensor:
        """Return the loss of logits of all patches, (B, N, K), or (B · N, K) with a mask.

        Args:
            teacher_out, student_out: the logits.
            mask: (B, H, W) or (B, N), bool; the mean over masked patches and the mean over visible
                ones are added. None: the mean over all.
            teacher_temp: the teacher's temperature; None: that of the constructor.
            visible_loss_weight: weight of the visible patches.

        Raises:
            ValueError: shapes that do not fit.
        """
        leave_gradients(self, teacher_out)
        shape = tuple(teacher_out.shape)
        if shape != tuple(student_out.shape) or len(shape) not in (2, 3):
            raise ValueError(
                "teacher_out and student_out must have the same shape (B, N, K) or (B N, K), got "
                f"{shape} and {tuple(student_out.shape)}"
            )
        if len(shape) == 2 and (mask is None or shape[0] % len(mask)):
            raise ValueError(
                "logits (B N, K) need a mask of B images, whose number divides theirs; got "
                f"{shape} and {None if mask is None else tuple(mask.shape)}"
            )
        images = shape[0] if len(shape) == 3 else len(mask)  # type: ignore[arg-type]
        teacher, student = (x.reshape(-1, shape[-1]) for x in (teacher_out, student_out))
        rows = soft_cross_entropy(
            student,
            teacher,
            student_temperature=self.student_temp,
            teacher_temperature=self._temperature(teacher_temp),
            center=self.center.value,
        ).view(images, -1)
        self.center.update(teacher)
        if mask is None:
            return rows.mean()
        mask = mask.reshape(images, -1)
        masked, visible = (_mean_where(x, rows) for x in (mask, ~mask.bool()))
        return (masked + visible_loss_weight * visible).mean()


class KoLeoLoss(losses.KoLeoLoss):
    """``lightly.loss.KoLeoLoss``: a single embedding is its own neighbour."""

    def __init__(self, p: float = 2, eps: float = 1e-8, **options) -> None:
        super().__init__(p, eps, **{"convention": "lightly", **options})

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of embeddings (N, D)."""
        if len(x) == 1:
            return koleo_of_one(x, self.p, self.eps)
        return super().forward(x)


class SwaVLoss(SaysIfGathering, losses.SwaVLoss):
    """``lightly.loss.SwaVLoss``, whose result has shape (1,)."""

    def forward(  # type: ignore[override]
        self,
        high_resolution_outputs: Sequence[Tensor],
        low_resolution_outputs: Sequence[Tensor],
        queue_outputs: Sequence[Tensor] | None = None,
        **prototypes,
    ) -> Tensor:
        """Return the loss of crops' logits, each (B, K)."""
        count = len(high_resolution_outputs)
        crops = promoted(*high_resolution_outputs, *low_resolution_outputs)
        high, low = crops[:count], crops[count:]
        if self.sinkhorn_iterations == 0 and not prototypes:
            return self._without_iterations(high, low, queue_outputs).reshape(1)
        return super().forward(high, low, queue_outputs, **prototypes).reshape(1)

    def _without_iterations(
        self, high: list[Tensor], low: list[Tensor], queue: Sequence[Tensor] | None
    ) -> Tensor:
        """The loss with assignments that are only divided by their sum, not balanced."""
        total: Any = 0
        for i, crop in enumerate(high):
            logits = crop if queue is None else torch.cat([crop, queue[i]])
            q = without_iterations(logits.detach(), self.sinkhorn_epsilon, self.gather)[: len(crop)]
            for z in high[:i] + high[i + 1 :] + low:
                rows = q * F.log_softmax(z.to(q.dtype) / self.temperature, 1)
                total = total - rows.sum(1).mean()
        return total / (len(high) * (len(high) + len(low) - 1))


class CAPILoss(SaysIfGathering, losses.CAPILoss):
    """``lightly.loss.CAPILoss``."""

    def forward(  # type: ignore[override]
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        teacher_index: Tensor | None = None,
        **prototypes,
    ) -> Tensor:
        """Return the loss of logits (B, N, K) and (B, M, K), paired by ``teacher_index``."""
        index = None if teacher_index is None else teacher_index.long()
        return super().forward(teacher_logits, student_logits, index, **prototypes)


def _mean_where(mask: Tensor, rows: Tensor) -> Tensor:
    """(B,): each image's mean over the patches of a mask; 0 for an empty mask."""
    mask = mask.to(rows.dtype)
    return (rows * mask).sum(1) / mask.sum(1).clamp(min=1)
