"""Losses of dinov2: names, arguments, methods, defaults, results and checkpoints.

The losses' methods compute the teacher's probabilities, which are passed to ``forward``, as in
dinov2. Differences: ``sslkernels/compat/README.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._operator import accumulation_dtype, full_precision
from ..distributed import Gather
from ..losses import koleo
from ..losses.distillation.koleo import _neighbors
from ..losses.distillation.views import Prototypes, Views
from ..primitives import sinkhorn, soft_cross_entropy
from .distillation import MeanOfRanks, without_iterations
from .peer import Peer, ShowsArguments, leave_gradients

__all__ = ["DINOLoss", "KoLeoLoss", "iBOTPatchLoss"]

PEER = Peer(
    package="dinov2",
    defined_in={
        "DINOLoss": "dinov2.loss.dino_clstoken_loss",
        "KoLeoLoss": "dinov2.loss.koleo_loss",
        "iBOTPatchLoss": "dinov2.loss.ibot_patch_loss",
    },
)


class _Teacher(ShowsArguments, MeanOfRanks):
    """A loss that computes its teacher's probabilities, with a centre or by Sinkhorn-Knopp."""

    def __init__(self, shape: tuple[int, ...], student_temp: float, center_momentum: float) -> None:
        super().__init__(shape, center_momentum, "mean", Gather(), "auto")
        self.student_temp = student_temp

    @torch.no_grad()
    def update_center(self, teacher_out: Views, prototypes: Prototypes | None = None) -> None:
        """Start the update with a batch's logits, with as many dimensions as the centre."""
        if not isinstance(teacher_out, Tensor) or teacher_out.dim() != self.center.dim():
            raise ValueError(f"logits must have {self.center.dim()} dimensions")
        super().update_center(teacher_out, prototypes)

    @torch.no_grad()
    def softmax_center_teacher(self, teacher_output: Tensor, teacher_temp: float) -> Tensor:
        """``softmax((teacher − center) / teacher_temp)``, after the centre's pending update."""
        self.apply_center_update()
        return _softmax(teacher_output, self.center, teacher_temp)


class DINOLoss(_Teacher):
    """``dinov2.loss.DINOLoss``, on class tokens.

    Attributes:
        center: (1, out_dim), saved with checkpoints.
    """

    def __init__(
        self, out_dim: int, student_temp: float = 0.1, center_momentum: float = 0.9
    ) -> None:
        super().__init__((1, out_dim), student_temp, center_momentum)
        self.out_dim = out_dim

    @torch.no_grad()
    def sinkhorn_knopp_teacher(
        self, teacher_output: Tensor, teacher_temp: float, n_iterations: int = 3
    ) -> Tensor:
        """The Sinkhorn-Knopp assignment (B, K) of logits (B, K), over all ranks' rows."""
        return _assignment(teacher_output, teacher_temp, n_iterations)

    def forward(
        self,
        student_output_list: Sequence[Tensor],
        teacher_out_softmaxed_centered_list: Sequence[Tensor],
    ) -> Tensor:
        """Return the sum, over all pairs of a student's logits (B, K) and a teacher's
        probabilities (B, K), of mean cross-entropies."""
        leave_gradients(self, *teacher_out_softmaxed_centered_list)
        rows = soft_cross_entropy(
            list(student_output_list),
            list(teacher_out_softmaxed_centered_list),
            student_temperature=self.student_temp,
            teacher_temperature=None,
        )
        return rows.mean(1).sum()


class iBOTPatchLoss(_Teacher):  # noqa: N801
    """``dinov2.loss.iBOTPatchLoss``, on masked patches.

    Attributes:
        center: (1, 1, patch_out_dim), saved with checkpoints.
    """

    def __init__(
        self, patch_out_dim: int, student_temp: float = 0.1, center_momentum: float = 0.9
    ) -> None:
        super().__init__((1, 1, patch_out_dim), student_temp, center_momentum)
        self.patch_out_dim = patch_out_dim

    @torch.no_grad()
    def sinkhorn_knopp_teacher(
        self,
        teacher_output: Tensor,
        teacher_temp: float,
        n_masked_patches_tensor: Tensor,
        n_iterations: int = 3,
    ) -> Tensor:
        """The Sinkhorn-Knopp assignment (M, K) of logits (M, K), over all ranks' patches.

        The number of patches is taken from the logits: ``n_masked_patches_tensor`` is neither read
        nor changed.
        """
        return _assignment(teacher_output, teacher_temp, n_iterations)

    def forward(
        self,
        student_patch_tokens: Tensor,
        teacher_patch_tokens: Tensor,
        student_masks_flat: Tensor,
    ) -> Tensor:
        """Return the loss of all patches' logits and probabilities, (B, N, K), at the patches that
        the mask (B, N) selects: the mean over each image's, then over images."""
        rows = self._cross_entropies(
            student_patch_tokens.flatten(0, 1), teacher_patch_tokens.flatten(0, 1)
        ).view(student_masks_flat.shape)
        masks = student_masks_flat.to(rows.dtype)
        return ((rows * masks).sum(1) / masks.sum(1).clamp(min=1)).mean()

    def forward_masked(
        self,
        student_patch_tokens_masked: Tensor,
        teacher_patch_tokens_masked: Tensor,
        student_masks_flat: Tensor,
        n_masked_patches: int | None = None,
        masks_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of the masked patches' logits and probabilities.

        Args:
            student_patch_tokens_masked, teacher_patch_tokens_masked: (M, K), or more rows, of which
                the first ``n_masked_patches`` are used.
            student_masks_flat: (B, N), bool.
            n_masked_patches: M; None: all rows.
            masks_weight: (M,), the weights of the patches; None: one over the number of masked
                patches of the image.

        Without patches the loss is 0.
        """
        rows = slice(n_masked_patches)
        if not len(student_patch_tokens_masked[rows]):
            return 0 * student_patch_tokens_masked.sum()
        losses = self._cross_entropies(
            student_patch_tokens_masked[rows], teacher_patch_tokens_masked[rows]
        )
        if masks_weight is None:
            counts = student_masks_flat.sum(1, keepdim=True).clamp(min=1)
            masks_weight = (1 / counts).expand_as(student_masks_flat)[student_masks_flat]
        return (losses * masks_weight).sum() / len(student_masks_flat)

    def _cross_entropies(self, student: Tensor, teacher: Tensor) -> Tensor:
        leave_gradients(self, teacher)
        return soft_cross_entropy(
            student, teacher, student_temperature=self.student_temp, teacher_temperature=None
        )


class KoLeoLoss(nn.Module):
    """``dinov2.loss.KoLeoLoss``: :func:`sslkernels.functional.koleo` with dinov2's convention.

    A single embedding is its own neighbour; ``eps`` is added to distances, not to differences.
    """

    def forward(self, student_output: Tensor, eps: float = 1e-8) -> Tensor:
        """Return the loss of embeddings (N, D) of one view."""
        if eps == 1e-8 and len(student_output) > 1:
            return koleo(student_output, convention="dinov2")
        with full_precision(student_output):
            z = student_output.to(accumulation_dtype(student_output))
            z = F.normalize(z, eps=eps, dim=-1)
            distances = F.pairwise_distance(z, z[_nearest(z.detach())], 2, 1e-8)
            return -(distances + eps).log().mean()


def _nearest(z: Tensor) -> Tensor:
    """(N,): the nearest other embedding; for a single embedding, itself."""
    if len(z) == 1:
        return torch.zeros(1, dtype=torch.int64, device=z.device)
    return _neighbors(z, z, 0, 1, "dinov2", "auto").squeeze(1)


def _softmax(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    with full_precision(logits):
        dtype = accumulation_dtype(logits)
        return torch.softmax((logits.to(dtype) - center.to(dtype)) / temperature, -1)


def _assignment(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    if iterations == 0:
        return without_iterations(logits, temperature, Gather())
    center = sinkhorn(logits, temperature, iterations, gather=Gather())
    return _softmax(logits, center, temperature)
