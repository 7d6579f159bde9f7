"""Self-supervised losses of pytorch-metric-learning (2.x): names, arguments, defaults, results.

``NTXentLoss``, ``SupConLoss``, ``VICRegLoss`` and ``SelfSupervisedLoss``, without what would change
the pairs or the mean: distances, reducers, regularisers and miners raise ValueError. What differs:
``sslkernels/compat/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._operator import accumulation_dtype
from ..losses import nt_xent, supcon, vicreg
from ..losses._common import full_precision, unit
from .peer import Peer

__all__ = ["NTXentLoss", "SelfSupervisedLoss", "SupConLoss", "VICRegLoss"]

_PACKAGE = "pytorch_metric_learning.losses"
_ROWS = 1024  # of similarities at a time

PEER = Peer(
    package="pytorch_metric_learning",
    distribution="pytorch-metric-learning",
    versions=((2, 8), (2, 9)),
    defined_in={
        "NTXentLoss": f"{_PACKAGE}.ntxent_loss",
        "SelfSupervisedLoss": f"{_PACKAGE}.self_supervised_loss",
        "SupConLoss": f"{_PACKAGE}.supcon_loss",
        "VICRegLoss": f"{_PACKAGE}.vicreg_loss",
    },
)


class NTXentLoss(nn.Module):
    """``pytorch_metric_learning.losses.NTXentLoss``.

    The mean over positive pairs (i, p) of ``−log [e^(s_ip) / (e^(s_ip) + Σ_n e^(s_in))]``, n being
    the rows of other classes, s the cosine similarity by temperature. Other positives are in no
    denominator; without any pair, or negative, it is 0. Blocks of similarities are computed again
    in the backward pass, none is kept. Under :class:`SelfSupervisedLoss` it is
    :func:`sslkernels.functional.nt_xent`.

    Args:
        temperature: above 0.
    """

    def __init__(self, temperature: float = 0.07, **kwargs) -> None:
        super().__init__()
        _refuse(self, kwargs)
        self.temperature = temperature

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            embeddings: (N, D).
            labels: (N,) integers.
            indices_tuple: None: the pairs are those of the labels.
            ref_emb: (M, D), among which pairs are sought; None: among ``embeddings``.
            ref_labels: (M,), of these.
        """
        labels = _check(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        labels = labels.to(embeddings.device)
        dtype = accumulation_dtype(embeddings)
        with full_precision(embeddings):
            z = others = unit(embeddings.to(dtype))
            other_labels = labels
            if ref_emb is not None:
                others = unit(ref_emb.to(dtype))
                other_labels = ref_labels.to(labels.device)  # type: ignore[union-attr]
            total = z.new_zeros(())
            count: Any = 0
            for start in range(0, len(z), _ROWS):
                rows = slice(start, start + _ROWS)
                own = start if ref_emb is None else None
                block, pairs = checkpoint(
                    _pair_losses, z[rows], others, labels[rows], other_labels, own,
                    self.temperature, use_reentrant=False,
                )  # fmt: skip
                total, count = total + block, count + pairs
            return total / count.clamp(min=1)


class SupConLoss(nn.Module):
    """``pytorch_metric_learning.losses.SupConLoss``: the convention of that name of
    :func:`sslkernels.functional.supcon`, and 0 where all rows are of one class."""

    def __init__(self, temperature: float = 0.1, **kwargs) -> None:
        super().__init__()
        _refuse(self, kwargs)
        self.temperature = temperature

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: None = None,
        ref_emb: None = None,
        ref_labels: None = None,
    ) -> Tensor:
        """Return the loss of embeddings (N, D) with labels (N,)."""
        labels = _check(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if ref_emb is not None:
            raise ValueError(
                "SupConLoss takes no ref_emb here; concatenate both, as "
                "SelfSupervisedLoss(symmetric=True) does"
            )
        loss = supcon(
            embeddings, labels, temperature=self.temperature, convention="pytorch_metric_learning"
        )
        labels = labels.to(loss.device)
        return torch.where((labels != labels[0]).any(), loss, 0 * loss)


class VICRegLoss(nn.Module):
    """``pytorch_metric_learning.losses.VICRegLoss``: :func:`sslkernels.functional.vicreg`."""

    def __init__(
        self,
        invariance_lambda: float = 25,
        variance_mu: float = 25,
        covariance_v: float = 1,
        eps: float = 1e-4,
        **kwargs,
    ) -> None:
        super().__init__()
        _refuse(self, kwargs)
        self.invariance_lambda, self.variance_mu = invariance_lambda, variance_mu
        self.covariance_v, self.eps = covariance_v, eps

    def forward(
        self,
        embeddings: Tensor,
        labels: None = None,
        indices_tuple: None = None,
        ref_emb: Tensor | None = None,
        ref_labels: None = None,
    ) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        given = {"labels": labels, "ref_labels": ref_labels, "indices_tuple": indices_tuple}
        for name, x in given.items():
            if x is not None:
                raise ValueError(f"VICRegLoss takes no {name}: it knows pairs of rows only")
        if ref_emb is None:
            raise ValueError("VICRegLoss needs the other view's embeddings, ref_emb")
        weights = self.invariance_lambda, self.variance_mu, self.covariance_v, self.eps
        return vicreg(embeddings, ref_emb, *weights)


class SelfSupervisedLoss(nn.Module):
    """``pytorch_metric_learning.losses.SelfSupervisedLoss``: row i of both views is class i.

    Args:
        loss: a loss of this module, or of pytorch-metric-learning.
        symmetric: rows of both views find their positives in both; else those of the first in the
            second.

    Raises:
        ValueError: a loss that does not take pairs.
    """

    def __init__(self, loss: nn.Module, symmetric: bool = True, **kwargs) -> None:
        super().__init__()
        _refuse(self, kwargs)
        if type(loss).__name__ not in self.supported_losses():
            raise ValueError(
                f"loss must be one of {', '.join(self.supported_losses())}; "
                f"got {type(loss).__name__}"
            )
        self.loss, self.symmetric = loss, symmetric

    def forward(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        if self.symmetric and type(self.loss) is NTXentLoss and len(embeddings) > 1:
            return nt_xent(embeddings, ref_emb, self.loss.temperature)
        labels = torch.arange(len(embeddings), device=embeddings.device)
        if self.symmetric:
            return self.loss(torch.cat([embeddings, ref_emb]), labels.repeat(2))
        return self.loss(embeddings, labels, ref_emb=ref_emb, ref_labels=labels.clone())

    @staticmethod
    def supported_losses() -> list[str]:
        """Names of the classes it takes."""
        return [
            "AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss",
            "IntraPairVarianceLoss", "LiftedStructureLoss", "MultiSimilarityLoss", "NTXentLoss",
            "SignalToNoiseRatioContrastiveLoss", "SupConLoss", "TripletMarginLoss", "NCALoss",
            "TupletMarginLoss",
        ]  # fmt: skip


def _pair_losses(
    z: Tensor,
    others: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    own: int | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The sum over the positive pairs of some rows, which are those from ``own`` on of the others,
    and the number of these pairs."""
    scores = z @ others.T / temperature
    same = labels[:, None] == other_labels
    negatives = scores.masked_fill(same, float("-inf")).logsumexp(1, keepdim=True)
    positive = same if own is None else same.diagonal_scatter(same.new_zeros(len(z)), own)
    losses = F.softplus(negatives - scores, threshold=50)
    return (losses * positive).sum(), positive.sum()


def _refuse(loss: nn.Module, kwargs: dict) -> None:
    if kwargs:
        raise ValueError(
            f"{type(loss).__name__} of sslkernels takes no {', '.join(sorted(kwargs))}; use "
            "pytorch_metric_learning's own, or patch(..., only=[...]) without this name"
        )


def _check(embeddings, labels, indices_tuple, ref_emb, ref_labels) -> Tensor:
    """The labels, which are given and fit."""
    if indices_tuple is not None:
        raise ValueError(
            "indices_tuple must be None: pairs are those of the labels. With a miner use "
            "pytorch_metric_learning's own loss"
        )
    if labels is None:
        raise ValueError("labels must be given")
    if labels.shape != embeddings.shape[:1] or embeddings.dim() != 2:
        raise ValueError(
            "embeddings must be (N, D) and labels (N,), got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if (ref_emb is None) != (ref_labels is None):
        raise ValueError("give ref_emb and ref_labels, or neither")
    return labels
