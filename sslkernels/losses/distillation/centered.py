"""Base of losses with a centred teacher: a running mean of its logits, or Sinkhorn-Knopp."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..._checks import check_choice, check_integers, check_shares
from ...distributed import Gather, PendingMean
from ...primitives._arguments import IMPLEMENTATIONS
from ...primitives.sinkhorn import prototype_sinkhorn, sinkhorn
from .._common import lasting, settings
from .views import Prototypes, Views, rows, split, sum_of_logits

CENTER_MODES = ("mean", "sinkhorn")


class CenteredLoss(nn.Module):
    """Keeps the centre of a teacher's logits.

    Args:
        shape: of the buffer ``center``: ones, then K.
        center_momentum: m of the running mean ``center = m · center + (1 − m) · mean``.
        center_mode: ``"mean"``; or ``"sinkhorn"``, where the centre comes from the batch alone.
        gather: the ranks that share a centre.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Attributes:
        center: the buffer, as of the last update. Rows that are not finite are left out; on a GPU
            their whole batch is. With several ranks the update is asynchronous: it is applied at
            the next loss, call of ``apply_center_update`` or checkpoint.
    """

    center: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        center_momentum: float,
        center_mode: str,
        gather: Gather,
        impl: str,
    ) -> None:
        super().__init__()
        check_choice("center_mode", center_mode, CENTER_MODES)
        check_choice("impl", impl, IMPLEMENTATIONS)
        check_shares(center_momentum=center_momentum)
        check_integers(1, output_dim=shape[-1])
        self.output_dim = shape[-1]
        self.register_buffer("center", torch.zeros(shape))
        self.center_momentum, self.center_mode = center_momentum, center_mode
        self.gather, self.impl = gather, impl
        self._update: PendingMean | None = None

    @torch.no_grad()
    def update_center(self, teacher_out: Views, prototypes: Prototypes | None = None) -> None:
        """Start the update with the finite rows of a batch: logits (…, B, K) or a list of them, or
        features, whose logits ``prototypes`` give."""
        self.apply_center_update()
        self._update = PendingMean(*sum_of_logits(teacher_out, prototypes), self.gather)
        if not self._update.travels:
            self.apply_center_update()

    @torch.no_grad()
    def apply_center_update(self) -> None:
        """Wait for the pending update, if any, and apply it."""
        if self._update is not None:
            update, self._update = self._update, None
            # not in place: a backward pass may still need the old value
            self.center = lasting(update.moved(self.center, 1 - self.center_momentum))

    def _center(self, teacher: Views, temperature: float, prototypes: Prototypes | None) -> Tensor:
        """The term subtracted from the teacher's logits of this batch."""
        first = teacher if isinstance(teacher, Tensor) else teacher[0]
        if prototypes is None and first.shape[-1] != self.output_dim:
            raise ValueError(
                f"teacher_out must have output_dim={self.output_dim} columns, got {first.shape[-1]}"
            )
        if self.center_mode == "mean":
            self.apply_center_update()
            return self.center
        teacher = rows(teacher)
        options: dict[str, Any] = {"gather": self.gather, "impl": self.impl}
        if prototypes is None:
            return sinkhorn(teacher, temperature, 3, **options)
        weight, magnitude = split(prototypes)
        return prototype_sinkhorn(teacher, weight, temperature, 3, magnitude=magnitude, **options)

    def _save_to_state_dict(self, *arguments: Any) -> None:
        self.apply_center_update()
        super()._save_to_state_dict(*arguments)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._update = None
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        self.apply_center_update()
        return self.__dict__

    def extra_repr(self) -> str:
        return settings(self)
