"""The loss of DINO's ``main_dino.py``: its name, arguments, results and checkpoints.

The script is not a package: :func:`sslkernels.patch` needs its checkout on ``sys.path``.
"""

from __future__ import annotations

from torch import Tensor

from ..losses import OfficialDINOLoss
from .peer import Peer

__all__ = ["DINOLoss"]

PEER = Peer(package="main_dino", defined_in={"DINOLoss": "main_dino"})


class DINOLoss(OfficialDINOLoss):
    """``main_dino.DINOLoss``: as :class:`sslkernels.OfficialDINOLoss`, but the centre is
    updated in evaluation mode too. torch.distributed need not be initialised."""

    def forward(  # type: ignore[override]
        self, student_output: Tensor, teacher_output: Tensor, epoch: int
    ) -> Tensor:
        """Return the loss of logits (ncrops · B, K) and (2B, K), one crop after the other."""
        loss = super().forward(student_output, teacher_output, epoch)
        if not self.training:
            self.update_center(teacher_output)
        return loss
