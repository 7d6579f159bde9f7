"""Losses of solo-learn: its functions' names, arguments, defaults, results and gradients.

As there, ranks gather if torch.distributed is initialised. Differences, and parts of solo-learn
that are not covered: ``sslkernels/compat/README.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._operator import accumulation_dtype, full_precision
from ..distributed import Gather, ranks_of
from ..losses import (
    OfficialDINOLoss,
    barlow_twins,
    dino,
    info_nce,
    moco_v3,
    negative_cosine_similarity,
    nnclr,
    supcon,
    vibcreg,
    vicreg,
)
from ..losses._common import cross_entropy
from ..primitives import pairwise_logsumexp, soft_cross_entropy
from ..primitives._rows import dot
from .peer import Peer, promoted, whole

__all__ = [
    "DINOLoss",
    "barlow_loss_func",
    "byol_loss_func",
    "mocov2plus_loss_func",
    "mocov3_loss_func",
    "nnclr_loss_func",
    "ressl_loss_func",
    "simclr_loss_func",
    "simsiam_loss_func",
    "swav_loss_func",
    "vibcreg_loss_func",
    "vicreg_loss_func",
    "wmse_loss_func",
]

PEER = Peer(
    package="solo",
    defined_in={
        name: f"solo.losses.{'dino' if name == 'DINOLoss' else name.removesuffix('_loss_func')}"
        for name in __all__
    },
)


def barlow_loss_func(
    z1: Tensor, z2: Tensor, lamb: float = 5e-3, scale_loss: float = 0.025
) -> Tensor:
    """Barlow Twins of embeddings (N, D). As in solo-learn, ranks standardise their own rows, and
    gradients are divided by the number of ranks."""
    gather = Gather(grad_scale="reference")
    return scale_loss * barlow_twins(z1, z2, lamb, sync_statistics=False, gather=gather)


def byol_loss_func(p: Tensor, z: Tensor, simplified: bool = True) -> Tensor:
    """One direction of BYOL for (N, …, D), with z detached; for (N, D), both values of
    ``simplified`` give the same loss."""
    return 2 - 2 * _cosine(p, z.detach(), simplified)


def mocov2plus_loss_func(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.1
) -> Tensor:
    """MoCo's loss of queries and keys (N, D) and a queue (D, K), all normalised by the caller."""
    with full_precision(query):
        queue = queue.T.to(query)
        negatives = pairwise_logsumexp(query, queue, 1 / temperature)
        rows = cross_entropy(dot(query, key) / temperature, negatives)
        return rows.mean().to(accumulation_dtype(query))


def mocov3_loss_func(query: Tensor, key: Tensor, temperature: float = 0.2) -> Tensor:
    """One direction of MoCo v3, times 2T. As in solo-learn, keys have a gradient in a single
    process, and none on several ranks."""
    if ranks_of(Gather()) is not None:
        return moco_v3(query, key, temperature, gather=Gather())
    return 2 * temperature * info_nce(query, key, temperature=temperature)


def nnclr_loss_func(nn: Tensor, p: Tensor, temperature: float = 0.1) -> Tensor:
    """One direction of NNCLR: neighbours (N, D) matched to predictions (N, D)."""
    if nn.requires_grad:
        return info_nce(nn, p, temperature=temperature, gather=Gather())
    return nnclr(nn, p, temperature, gather=Gather())


def ressl_loss_func(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    temperature_q: float = 0.1,
    temperature_k: float = 0.04,
) -> Tensor:
    """ReSSL: the cross-entropy from the similarities of k with a queue (K, D), detached, to those
    of q; (N, D) each, all normalised by the caller. No similarities are stored."""
    prototypes = queue.to(q)
    return dino(
        student=[q],
        teacher=[k],
        student_temp=temperature_q,
        teacher_temp=temperature_k,
        same_view=True,
        prototypes=prototypes,
        teacher_prototypes=prototypes.detach(),
    )


def simclr_loss_func(z: Tensor, indexes: Tensor, temperature: float = 0.1) -> Tensor:
    """SimCLR and SupCon of solo-learn: rows (N, D) with the same index (N,), numbers of any kind,
    are positives, which are summed inside the logarithm."""
    indexes = whole(indexes)
    return supcon(z, indexes, temperature=temperature, convention="solo_learn", gather=Gather())


def simsiam_loss_func(p: Tensor, z: Tensor, simplified: bool = True) -> Tensor:
    """One direction of SimSiam; see ``byol_loss_func``."""
    return -_cosine(p, z.detach(), simplified)


def swav_loss_func(
    preds: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1
) -> Tensor:
    """SwAV of V crops' logits (N, K) and of the assignments (N, K) of the first T of them: the mean
    over the T, and over the V − 1 other crops of each."""
    preds, assignments = list(preds), list(assignments)
    if len(preds) < 2 or not 0 < len(assignments) <= len(preds):
        raise ValueError(
            "swav_loss_func needs at least two predictions, and from one assignment to as many as "
            f"predictions; got {len(preds)} and {len(assignments)}"
        )
    if torch.is_grad_enabled() and any(x.requires_grad for x in assignments):
        raise ValueError("assignments must not require a gradient: none is computed here")
    pairs = (
        preds[0]
        .new_full(
            (len(preds), len(assignments)),
            1 / ((len(preds) - 1) * len(assignments)),
            dtype=accumulation_dtype(preds[0]),
        )
        .fill_diagonal_(0)
    )
    rows = soft_cross_entropy(
        preds, assignments, student_temperature=temperature, teacher_temperature=None, pairs=pairs
    )
    return rows.sum(0).mean()


def vibcreg_loss_func(
    z1: Tensor,
    z2: Tensor,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 200.0,
) -> Tensor:
    """VIbCReg of embeddings (N, D)."""
    weights = sim_loss_weight, var_loss_weight, cov_loss_weight
    z1, z2 = promoted(z1, z2)
    return vibcreg(z1, z2, *weights, gather=Gather())


def vicreg_loss_func(
    z1: Tensor,
    z2: Tensor,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 1.0,
) -> Tensor:
    """VICReg of embeddings (N, D), with the variance terms of the views added, not halved."""
    weights = sim_loss_weight, var_loss_weight, cov_loss_weight
    z1, z2 = promoted(z1, z2)
    return vicreg(z1, z2, *weights, convention="solo_learn", gather=Gather())


def wmse_loss_func(z1: Tensor, z2: Tensor, simplified: bool = True) -> Tensor:
    """``2 − 2 mean cos(z1, z2)`` of whitened views. As in solo-learn, z2 is detached if
    ``simplified``, and not otherwise."""
    return 2 - 2 * _cosine(z1, z2.detach() if simplified else z2)


def _cosine(a: Tensor, b: Tensor, over_rows: bool = True) -> Tensor:
    """The mean cosine of (N, …, D); with ``over_rows=False``, as in solo-learn, its sum over the
    second dimension, divided by the size of the last."""
    mean = -negative_cosine_similarity(a, b, -1)
    return mean if over_rows else mean * a.shape[1] / a.shape[-1]


class DINOLoss(OfficialDINOLoss):
    """``solo.losses.dino.DINOLoss``, whose epoch is set as the attribute ``epoch``.

    Attributes:
        epoch: 0 initially; determines the teacher's temperature.
        center: (1, num_prototypes), saved with checkpoints.
    """

    def __init__(
        self,
        num_prototypes: int,
        warmup_teacher_temp: float,
        teacher_temp: float,
        warmup_teacher_temp_epochs: float,
        num_epochs: int,
        student_temp: float = 0.1,
        num_large_crops: int = 2,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__(
            num_prototypes, num_large_crops, warmup_teacher_temp, teacher_temp,
            int(warmup_teacher_temp_epochs), num_epochs, student_temp, center_momentum,
        )  # fmt: skip
        self.epoch = 0
        self.num_large_crops = num_large_crops

    def forward(  # type: ignore[override]
        self, student_output: Tensor, teacher_output: Tensor
    ) -> Tensor:
        """Return the loss of logits (num_large_crops · B, K) and (2B, K), crop after crop."""
        loss = super().forward(student_output, teacher_output, self.epoch)
        if not self.training:
            self.update_center(teacher_output)
        return loss
