"""Self-supervised losses of pytorch-metric-learning (2.x): names, arguments, defaults, results.

``NTXentLoss``, ``SupConLoss``, ``VICRegLoss`` and ``SelfSupervisedLoss``. Arguments that change the
pairs or the mean (distances, reducers, regularisers and miners) are left to the package's own
losses if it is installed; otherwise they raise ValueError. Differences:
``sslkernels/compat/README.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._operator import accumulation_dtype, full_precision
from ..losses import nt_xent, supcon, vicreg
from ..losses._common import unit
from .peer import OrPeers, Peer, ShowsArguments, promoted, say, whole
from .stand_in import StandIn

__all__ = ["NTXentLoss", "SelfSupervisedLoss", "SupConLoss", "VICRegLoss"]

_PACKAGE = "pytorch_metric_learning.losses"
_ROWS = 1024  # of similarities at a time

PEER = Peer(
    package="pytorch_metric_learning",
    distribution="pytorch-metric-learning",
    releases=("2.0.0", "2.9.0"),
    defined_in={
        "NTXentLoss": f"{_PACKAGE}.ntxent_loss",
        "SelfSupervisedLoss": f"{_PACKAGE}.self_supervised_loss",
        "SupConLoss": f"{_PACKAGE}.supcon_loss",
        "VICRegLoss": f"{_PACKAGE}.vicreg_loss",
    },
    since={"SelfSupervisedLoss": "2.2.0"},  # symmetric
)


class _Loss(OrPeers, ShowsArguments, nn.Module):
    """A loss that leaves unsupported arguments to the package's own class."""

    peer = PEER

    @classmethod
    def _not_done(cls, arguments: dict[str, Any]) -> str:
        return ", ".join(arguments.get("kwargs", ()))

    def _instead(self, reason: str) -> nn.Module:
        """The package's own loss, with the same arguments; ValueError if it is not installed."""
        own = None if "_own" in vars(self) else PEER.own(type(self).__name__)
        if own is None:
            raise ValueError(f"{reason}; use pytorch_metric_learning's own loss")
        say(f"{type(self).__name__}.forward", reason)
        names = list(inspect.signature(type(self).__init__).parameters)[1:-1]
        return own(**{name: getattr(self, name) for name in names})


class NTXentLoss(_Loss):
    """``pytorch_metric_learning.losses.NTXentLoss``.

    The mean over positive pairs (i, p) of ``−log [e^(s_ip) / (e^(s_ip) + Σ_n e^(s_in))]``, where n
    runs over the rows of other classes, and s is the cosine similarity over temperature. Other
    positives are not in the denominator; without a pair or a negative the loss is 0. Blocks of
    similarities are recomputed in the backward pass, none is kept. Within
    ``SelfSupervisedLoss`` it is :func:`sslkernels.functional.nt_xent`.

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
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            embeddings: (N, D).
            labels: (N,) numbers of any kind.
            indices_tuple: None: pairs follow from the labels.
            ref_emb: (M, D), the rows to pair with; None: ``embeddings``.
            ref_labels: (M,), their labels. If they are ``labels`` themselves, or None, row i is not
                its own positive.
        """
        if indices_tuple is not None:
            own = self._instead("NTXentLoss takes no pairs but those of the labels")
            return own(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return _mean_of_blocks(
            _pair_losses, embeddings, labels, ref_emb, ref_labels, self.temperature
        )


class SupConLoss(_Loss):
    """``pytorch_metric_learning.losses.SupConLoss``: :func:`sslkernels.functional.supcon` with
    ``convention="pytorch_metric_learning"``, and 0 if all rows are of one class."""

    def __init__(self, temperature: float = 0.1, **kwargs) -> None:
        super().__init__()
        _refuse(self, kwargs)
        self.temperature = temperature

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; arguments as for ``NTXentLoss``."""
        if indices_tuple is not None:
            own = self._instead("SupConLoss takes no pairs but those of the labels")
            return own(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if ref_emb is not None or len(embeddings) < 2:
            return _mean_of_blocks(
                _row_losses, embeddings, labels, ref_emb, ref_labels, self.temperature
            )
        labels = whole(_checked(embeddings, labels))
        loss = supcon(
            embeddings, labels, temperature=self.temperature, convention="pytorch_metric_learning"
        )
        labels = labels.to(loss.device)
        return torch.where((labels != labels[0]).any(), loss, 0 * loss)


class VICRegLoss(_Loss):
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
        """Return the loss of two views' embeddings, each (N, D); of one with itself, if there is no
        other."""
        given = {"labels": labels, "ref_labels": ref_labels, "indices_tuple": indices_tuple}
        for name, x in given.items():
            if x is not None:
                raise ValueError(f"VICRegLoss takes no {name}: it knows pairs of rows only")
        weights = self.invariance_lambda, self.variance_mu, self.covariance_v, self.eps
        z_a, z_b = promoted(embeddings, embeddings if ref_emb is None else ref_emb)
        return vicreg(z_a, z_b, *weights)


class SelfSupervisedLoss(_Loss):
    """``pytorch_metric_learning.losses.SelfSupervisedLoss``: row i of both views is class i.

    Args:
        loss: a loss of this module, or of pytorch-metric-learning.
        symmetric: rows of both views are paired with both; False: rows of the first with those of
            the second.

    Raises:
        ValueError: an unsupported loss.
    """

    def __init__(self, loss: nn.Module, symmetric: bool = True, **kwargs) -> None:
        super().__init__()
        _refuse(self, kwargs)
        self.check_loss_support(type(loss).__name__)
        self.loss, self.symmetric = loss, symmetric

    def forward(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        if self.symmetric and _is_plain_nt_xent(self.loss) and len(embeddings) > 1:
            temperature: Any = self.loss.temperature
            return nt_xent(embeddings, ref_emb, temperature)
        labels = torch.arange(len(embeddings), device=embeddings.device)
        if self.symmetric:
            return self.loss(torch.cat([embeddings, ref_emb]), labels.repeat(2))
        return self.loss(embeddings, labels, ref_emb=ref_emb, ref_labels=labels.clone())

    @staticmethod
    def supported_losses() -> list[str]:
        """Names of the supported classes."""
        return [
            "AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss",
            "IntraPairVarianceLoss", "LiftedStructureLoss", "MultiSimilarityLoss", "NTXentLoss",
            "SignalToNoiseRatioContrastiveLoss", "SupConLoss", "TripletMarginLoss", "NCALoss",
            "TupletMarginLoss",
        ]  # fmt: skip

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Raise unless a class of this name is supported."""
        if loss_name not in cls.supported_losses():
            raise ValueError(f"loss must be one of {', '.join(cls.supported_losses())}; "
                             f"got {loss_name}")  # fmt: skip


def _is_plain_nt_xent(loss: nn.Module) -> bool:
    """Whether it is the class of this module, or its stand-in; not a subclass of either."""
    return type(loss) is NTXentLoss or (
        isinstance(loss, StandIn) and type(loss).__bases__[0] is NTXentLoss
    )


def _mean_of_blocks(
    block_losses: Callable,
    embeddings: Tensor,
    labels: Tensor | None,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    temperature: float,
) -> Tensor:
    """The mean of losses, from ``block_losses``, which returns the sum and the number of losses for
    one block of rows after another."""
    labels = _checked(embeddings, labels).to(embeddings.device)
    other_labels, excludes_own = labels, True
    if ref_emb is None:
        ref_emb = embeddings
    elif ref_labels is None:
        ref_emb = ref_emb[: len(labels)]
    else:
        other_labels = _checked(ref_emb, ref_labels, "ref_").to(ref_emb.device)
        excludes_own = other_labels is labels
    if len(embeddings) * len(ref_emb) <= 2:  # the package needs more than one pair and negative
        return 0 * embeddings.sum()
    with full_precision(embeddings):
        dtype = accumulation_dtype(embeddings)
        z = unit(embeddings.to(dtype))
        others = z if ref_emb is embeddings else unit(ref_emb.to(dtype))
        total, count = z.new_zeros(()), z.new_zeros(())
        for start in range(0, len(z), _ROWS):
            rows = slice(start, start + _ROWS)
            block, number = checkpoint(
                block_losses, z[rows], others, labels[rows], other_labels,
                start if excludes_own else None, temperature, use_reentrant=False,
            )  # fmt: skip
            total, count = total + block, count + number
        return total / count.clamp(min=1)


def _pair_losses(
    z: Tensor,
    others: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    own: int | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The sum over the positive pairs of a block of rows, and their number; the block starts at row
    ``own`` of the others, None: they are different sets."""
    scores = z @ others.T / temperature
    same = labels[:, None] == other_labels
    negatives = scores.masked_fill(same, float("-inf")).logsumexp(1, keepdim=True)
    positive = _without_own(same, own)
    losses = F.softplus(negatives - scores, threshold=50)
    return (losses * positive).sum(), positive.sum()


def _row_losses(
    z: Tensor,
    others: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    own: int | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """As :func:`_pair_losses`, for SupCon's rows, of which those above 0 count."""
    scores = z @ others.T / temperature
    same = labels[:, None] == other_labels
    positive, counts = _without_own(same, own), _without_own(torch.ones_like(same), own)
    everything = scores.masked_fill(~counts, float("-inf")).logsumexp(1)
    number = positive.sum(1)
    losses = everything - (scores * positive).sum(1) / number.clamp(min=1)
    losses = losses.where((number > 0) & (losses > 0), 0.0)
    return losses.sum(), (losses > 0).sum()


def _without_own(pairs: Tensor, own: int | None) -> Tensor:
    if own is None:
        return pairs
    return pairs.diagonal_scatter(pairs.new_zeros(len(pairs)), own)


def _refuse(loss: nn.Module, kwargs: dict) -> None:
    if kwargs:
        raise ValueError(
            f"{type(loss).__name__} of sslkernels takes no {', '.join(sorted(kwargs))}; use "
            "pytorch_metric_learning's own"
        )


def _checked(embeddings: Tensor, labels: Tensor | None, prefix: str = "") -> Tensor:
    """The labels, after checking that they are given and fit."""
    if labels is None:
        raise ValueError("labels must be given")
    if labels.shape != embeddings.shape[:1] or embeddings.dim() != 2:
        name = f"{prefix}emb" if prefix else "embeddings"
        raise ValueError(
            f"{name} must be (N, D) and {prefix}labels (N,), got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    return labels
