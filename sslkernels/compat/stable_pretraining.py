"""Losses of stable-pretraining (0.1): names, arguments, defaults, results and gradients.

As there, ranks gather if torch.distributed is initialised. Differences, and parts that are not
covered: ``sslkernels/compat/README.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._operator import accumulation_dtype, full_precision
from ..distributed import Gather, PendingMean, ranks_of, rows_of_all_ranks
from ..losses import barlow_twins, clip, negative_cosine_similarity, nt_xent, sigreg, vicreg
from ..losses._common import lasting, unit
from ..losses.covariance.vicreg import variance_and_covariance
from ..primitives import sinkhorn, soft_cross_entropy
from ..primitives._rows import finite_sum
from .distillation import without_iterations
from .peer import Peer, ShowsArguments, leave_gradients, promoted
from .slices import Knots, Step

__all__ = [
    "BYOLLoss",
    "BarlowTwinsLoss",
    "CLIPLoss",
    "DINOv1Loss",
    "DINOv2Loss",
    "EppsPulley",
    "NTXEntLoss",
    "NegativeCosineSimilarity",
    "SlicedEppsPulley",
    "VCRegLoss",
    "VICRegLoss",
    "iBOTPatchLoss",
]

_MODULES = {
    "joint_embedding": ["BYOLLoss", "BarlowTwinsLoss", "NTXEntLoss", "VICRegLoss"],
    "multimodal": ["CLIPLoss"],
    "dino": ["DINOv1Loss", "DINOv2Loss", "iBOTPatchLoss"],
    "utils": ["NegativeCosineSimilarity", "VCRegLoss"],
}

PEER = Peer(
    package="stable_pretraining",
    distribution="stable-pretraining",
    releases=("0.1.3", "0.1.8"),
    defined_in={
        name: f"stable_pretraining.losses.{module}" for module, x in _MODULES.items() for name in x
    }
    | dict.fromkeys(("EppsPulley", "SlicedEppsPulley"), "stable_pretraining.methods.lejepa"),
    # before it, most losses were computed on each rank's batch alone
    since=dict.fromkeys(
        ("BarlowTwinsLoss", "CLIPLoss", "NTXEntLoss", "VCRegLoss", "VICRegLoss"), "0.1.8"
    )
    | dict.fromkeys(("EppsPulley", "SlicedEppsPulley"), "0.1.8"),
)


class BYOLLoss(ShowsArguments, nn.Module):
    """``2 − 2 mean cos``; nothing is detached."""

    def forward(self, online_pred: Tensor, target_proj: Tensor) -> Tensor:
        """Return the loss of (…, D) each."""
        return 2 + 2 * negative_cosine_similarity(online_pred, target_proj, -1)


class NegativeCosineSimilarity(ShowsArguments, nn.Module):
    """``−mean cos``; nothing is detached."""

    def forward(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Return the loss of (N, D) each."""
        return negative_cosine_similarity(z_i, z_j)


class VICRegLoss(ShowsArguments, nn.Module):
    """VICReg with halved variance terms: :func:`sslkernels.functional.vicreg`."""

    def __init__(
        self,
        sim_coeff: float = 25,
        std_coeff: float = 25,
        cov_coeff: float = 1,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        self.sim_coeff = sim_coeff
        self.vcreg_loss = VCRegLoss(std_coeff, cov_coeff, epsilon)

    def forward(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        own = self.vcreg_loss
        weights = self.sim_coeff, own.std_coeff, own.cov_coeff, own.epsilon
        z_i, z_j = promoted(z_i, z_j)
        return vicreg(z_i, z_j, *weights, gather=Gather())


class VCRegLoss(ShowsArguments, nn.Module):
    """VICReg's variance (halved) and covariance terms of one view."""

    def __init__(self, std_coeff: float = 25, cov_coeff: float = 1, epsilon: float = 1e-4) -> None:
        super().__init__()
        self.std_coeff, self.cov_coeff, self.epsilon = std_coeff, cov_coeff, epsilon

    def forward(self, z_i: Tensor) -> Tensor:
        """Return the loss of embeddings (N, D)."""
        with full_precision(z_i):
            variance, covariance = variance_and_covariance(
                z_i, self.epsilon, gather=Gather(), impl="auto", route="auto"
            )
            return self.std_coeff * variance / 2 + self.cov_coeff * covariance


class BarlowTwinsLoss(ShowsArguments, nn.Module):
    """Barlow Twins of features divided by their unbiased deviation + 1e-5, on each rank separately:
    :func:`sslkernels.functional.barlow_twins` with ``convention="stable_pretraining"``."""

    def __init__(self, lambd: float = 5e-3) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return barlow_twins(
            z_i, z_j, self.lambd, convention="stable_pretraining", sync_statistics=False,
            gather=Gather(),
        )  # fmt: skip


class NTXEntLoss(ShowsArguments, nn.Module):
    """NT-Xent: :func:`sslkernels.functional.nt_xent`."""

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        z_i, z_j = promoted(z_i, z_j)
        return nt_xent(z_i, z_j, self.temperature, gather=Gather())


class CLIPLoss(ShowsArguments, nn.Module):
    """CLIP of features that are normalised here; ``logit_scale`` divides the logits."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, feats_i: Tensor, feats_j: Tensor, logit_scale: float | Tensor | None = None
    ) -> Tensor:
        """Return the loss of (N, D) each; ``logit_scale`` is a temperature, despite its name."""
        temperature = self.temperature if logit_scale is None else logit_scale
        with full_precision(feats_i):
            return clip(unit(feats_i), unit(feats_j), 1 / temperature, gather=Gather())


class DINOv1Loss(ShowsArguments, nn.Module):
    """DINO of a student's logits and the teacher's probabilities, which its methods compute.

    Attributes:
        center: None before the first update, which sets it; not saved in checkpoints.
    """

    def __init__(self, temperature_student: float = 0.1, center_momentum: float = 0.9) -> None:
        super().__init__()
        self.temperature_student, self.center_momentum = temperature_student, center_momentum
        self.center: Tensor | None = None
        self._update: PendingMean | None = None

    def forward(self, student_logits: Tensor, teacher_probs: Tensor) -> Tensor:
        """Return the mean over pairs of different views of (S, B, K) and (T, B, K)."""
        leave_gradients(self, teacher_probs)
        views = len(student_logits), len(teacher_probs)
        pairs = student_logits.new_ones(views, dtype=accumulation_dtype(student_logits))
        pairs.fill_diagonal_(0)
        rows = soft_cross_entropy(
            student_logits, teacher_probs, student_temperature=self.temperature_student,
            teacher_temperature=None, pairs=pairs / (views[0] * views[1] - min(views)),
        )  # fmt: skip
        return rows.sum(0).mean()

    @torch.no_grad()
    def sinkhorn_knopp_teacher(
        self,
        teacher_logits: Tensor,
        teacher_temp: float,
        num_samples: int | Tensor | None = None,
        n_iterations: int = 3,
    ) -> Tensor:
        """The Sinkhorn-Knopp assignment of logits (…, K), over all ranks' rows, whose number is
        taken from the logits."""
        if num_samples is None and n_iterations == 0:
            num_samples = rows_of_all_ranks(teacher_logits, Gather())
        return _assignment(teacher_logits, teacher_temp, num_samples, n_iterations)

    @torch.no_grad()
    def softmax_center_teacher(
        self, teacher_logits: Tensor, teacher_temp: float, update_centers: bool = True
    ) -> Tensor:
        """``softmax((teacher − center) / teacher_temp)``, after the pending update of the centre
        unless ``update_centers=False``."""
        if update_centers:
            self.apply_center_update()
        return _softmax(teacher_logits, self.center, teacher_temp)

    @torch.no_grad()
    def update_center(self, teacher_output: Tensor) -> None:
        """Start the update with a batch's logits (T, B, K); it is applied at the next use."""
        if teacher_output.dim() != 3:
            raise ValueError(f"logits must be (T, B, K), got {tuple(teacher_output.shape)}")
        logits = teacher_output.flatten(0, -2)
        self._update = PendingMean(*finite_sum(logits, accumulation_dtype(logits)), Gather())

    @torch.no_grad()
    def apply_center_update(self) -> None:
        """Apply the pending update, if any."""
        if self._update is not None:
            update, self._update = self._update, None
            if self.center is None:
                center = update.wait()[None].nan_to_num_(0.0, 0.0, 0.0)
            else:
                center = update.moved(self.center, 1 - self.center_momentum)
            self.center = lasting(center)


class iBOTPatchLoss(ShowsArguments, nn.Module):  # noqa: N801
    """The mean cross-entropy of patches' logits and the teacher's probabilities."""

    def __init__(self, student_temp: float = 0.1) -> None:
        super().__init__()
        self.student_temp = student_temp

    def forward(self, student_patch_logits: Tensor, teacher_patch_probs: Tensor) -> Tensor:
        """Return the loss of (…, K) each."""
        leave_gradients(self, teacher_patch_probs)
        student, teacher = (x.flatten(0, -2) for x in (student_patch_logits, teacher_patch_probs))
        return soft_cross_entropy(
            student, teacher, student_temperature=self.student_temp, teacher_temperature=None
        ).mean()

    @torch.no_grad()
    def sinkhorn_knopp_teacher(
        self,
        teacher_patch_tokens: Tensor,
        teacher_temp: float,
        num_samples: int | Tensor | None = None,
        n_iterations: int = 3,
    ) -> Tensor:
        """The Sinkhorn-Knopp assignment of logits (…, K); see ``DINOv1Loss``."""
        return _assignment(teacher_patch_tokens, teacher_temp, num_samples, n_iterations)


class DINOv2Loss(ShowsArguments, nn.Module):
    """The weighted sum of ``DINOv1Loss`` of class tokens and ``iBOTPatchLoss``."""

    def __init__(
        self,
        dino_loss_weight: float = 1.0,
        ibot_loss_weight: float = 1.0,
        temperature_student: float = 0.1,
        center_momentum: float = 0.9,
        student_temp: float = 0.1,
    ) -> None:
        super().__init__()
        self.dino_loss_weight, self.ibot_loss_weight = dino_loss_weight, ibot_loss_weight
        self.dino_loss = DINOv1Loss(temperature_student, center_momentum)
        self.ibot_loss = iBOTPatchLoss(student_temp)

    def forward(
        self,
        student_cls_logits: Tensor,
        teacher_cls_probs: Tensor,
        student_patch_logits: Tensor | None = None,
        teacher_patch_probs: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; without patches, the loss of class tokens alone."""
        given = (teacher_cls_probs, teacher_patch_probs)
        leave_gradients(self, *(x for x in given if x is not None))
        loss = self.dino_loss_weight * self.dino_loss(student_cls_logits, teacher_cls_probs)
        if student_patch_logits is None or teacher_patch_probs is None:
            return loss
        patches = self.ibot_loss(student_patch_logits, teacher_patch_probs)
        return loss + self.ibot_loss_weight * patches


class EppsPulley(ShowsArguments, Knots):
    """LeJEPA's statistic of this rank's samples on a line, times the number of ranks.

    Within ``SlicedEppsPulley`` projections are not stored; used alone, it stores them for
    every knot.
    """

    def __init__(self, t_max: float = 3.0, n_points: int = 17) -> None:
        super().__init__()
        if n_points % 2 != 1:
            raise AssertionError(f"n_points must be odd, got {n_points}")
        self.t_max, self.n_points = t_max, n_points
        ranks = ranks_of(Gather())
        self.world_size = 1 if ranks is None else ranks.size
        self.keep_knots(n_points, t_max)

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics (M,) of samples (N, M)."""
        with full_precision(x):
            x = x.to(accumulation_dtype(x))
            angles = x[..., None] * self.t
            error = (angles.cos().mean(0) - self.phi).square() + angles.sin().mean(0).square()
            return (error @ self.weights.to(x.dtype)) * (len(x) * self.world_size)


class SlicedEppsPulley(ShowsArguments, Step):
    """The mean of ``EppsPulley`` over random directions: SIGReg of all views as one set."""

    def __init__(self, num_slices: int = 1024, t_max: float = 3.0, n_points: int = 17) -> None:
        super().__init__()
        self.num_slices, self.t_max, self.n_points = num_slices, t_max, n_points
        self.ep = EppsPulley(t_max, n_points)
        self.keep_step()

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of embeddings (N, D)."""
        knots = self.ep.known_knots()
        distance = sigreg(x, self.draw(x, self.num_slices), *knots)
        return distance * self.ep.world_size if self.ep.world_size > 1 else distance


def _assignment(
    logits: Tensor, temperature: float, count: int | Tensor | None, iterations: int
) -> Tensor:
    rows = logits.flatten(0, -2)
    if iterations == 0:
        return without_iterations(rows, temperature, Gather(), count).view(logits.shape)
    center = sinkhorn(rows, temperature, iterations, gather=Gather())
    return _softmax(logits, center, temperature)


def _softmax(logits: Tensor, center: Tensor | None, temperature: float) -> Tensor:
    with full_precision(logits):
        logits = logits.to(accumulation_dtype(logits))
        return torch.softmax((logits if center is None else logits - center) / temperature, -1)
