"""Losses of positive pairs alone, which need no negatives; and uniformity."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from .._checks import (
    MOST,
    check_devices,
    check_integers,
    check_not_negative,
    check_numbers,
    check_positive,
    check_tensors,
)
from .._operator import accumulation_dtype, full_precision
from ..distributed import (
    Gather,
    logsumexp_over_ranks,
    mean_over_ranks,
    ranks_of,
    rows_of_all_ranks,
    scale_gradient,
)
from ..primitives._rows import normalize
from ..primitives.pairwise_logsumexp import pairwise_logsumexp
from ._common import Gathering, GatheringLoss, check_embeddings, check_views, settings, unit


def negative_cosine_similarity(x0: Tensor, x1: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """``−mean cos(x0, x1)``, the criterion of SimSiam (Chen and He 2021, arXiv:2011.10566).

    Neither argument is detached: that is the caller's choice, as in lightly. Computed in at least
    float32. As a mean over pairs it is correct under DistributedDataParallel without gathering.

    Args:
        x0, x1: tensors of one shape, usually (N, D).
        dim: the dimension of the vectors.
        eps: lower bound of the norms in the denominator.

    Raises:
        ValueError: shapes that differ.
    """
    check_tensors(x0=x0, x1=x1)
    check_not_negative(eps=eps)
    check_devices(x0=x0, x1=x1)
    if x0.shape != x1.shape:
        raise ValueError(
            f"x0 and x1 must have the same shape, got {tuple(x0.shape)} and {tuple(x1.shape)}"
        )
    check_integers(-MOST, dim=dim)
    if not -x0.dim() <= dim < x0.dim():
        raise ValueError(f"x0 and x1 must have a dimension dim={dim}, got {tuple(x0.shape)}")
    with full_precision(x0):
        dtype = accumulation_dtype(x0)
        x0, x1 = (normalize(x.to(dtype), dim, eps) for x in (x0, x1))
        return -(x0 * x1).sum(dim).mean()


def simsiam(prediction: Tensor, projection: Tensor) -> Tensor:
    """``−mean cos(p, stop_gradient(z))``: one direction of SimSiam, for p and z (N, D)."""
    check_views(prediction=prediction, projection=projection)
    return negative_cosine_similarity(prediction, projection.detach())


def byol(prediction: Tensor, projection: Tensor) -> Tensor:
    """``2 − 2 mean cos(p, stop_gradient(z))``: one direction of BYOL (Grill et al. 2020,
    arXiv:2006.07733), for p and z (N, D). Its two directions are summed."""
    check_views(prediction=prediction, projection=projection)
    return 2 + 2 * negative_cosine_similarity(prediction, projection.detach())


class NegativeCosineSimilarity(nn.Module):
    """``lightly.loss.NegativeCosineSimilarity``: see
    :func:`sslkernels.functional.negative_cosine_similarity`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        check_integers(-MOST, dim=dim)
        check_not_negative(eps=eps)
        self.dim, self.eps = dim, eps

    def extra_repr(self) -> str:
        return settings(self)

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Return the loss of two tensors of one shape."""
        return negative_cosine_similarity(x0, x1, self.dim, self.eps)


class SimSiamLoss(nn.Module):
    """Both directions of SimSiam, halved: ``(simsiam(p0, z1) + simsiam(p1, z0)) / 2``."""

    def forward(self, p0: Tensor, p1: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
        """Return the loss of two views' predictions and projections, each (N, D)."""
        check_embeddings(p0=p0, p1=p1, z0=z0, z1=z1)
        return (simsiam(p0, z1) + simsiam(p1, z0)) / 2


class BYOLLoss(nn.Module):
    """Both directions of BYOL, summed: ``byol(p0, z1) + byol(p1, z0)``."""

    def forward(self, p0: Tensor, p1: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
        """Return the loss of two views' predictions and projections, each (N, D)."""
        check_embeddings(p0=p0, p1=p1, z0=z0, z1=z1)
        return byol(p0, z1) + byol(p1, z0)


def alignment(x: Tensor, y: Tensor, alpha: float = 2.0, *, gather: Gather | None = None) -> Tensor:
    """``mean_i ‖x_i − y_i‖^α`` of unit vectors (Wang and Isola 2020, arXiv:2005.10242).

    Args:
        x, y: (N, D), positive pairs; normalised here.
        alpha: α, above 0.
        gather: the ranks over which the mean runs.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(x=x, y=y)
    check_positive(alpha=alpha)
    with full_precision(x):
        x, y = (scale_gradient(z, gather).to(accumulation_dtype(z)) for z in (x, y))
        difference = normalize(x) - normalize(y)
        squares = difference.square().sum(1)
        return mean_over_ranks(squares if alpha == 2 else _power(squares, alpha / 2), gather)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x ≥ 0 to a power, with gradient 0 at 0: a perfectly aligned pair has no gradient."""
    aligned = x == 0
    return (x.masked_fill(aligned, 1.0) ** exponent).masked_fill(aligned, 0.0)


def uniformity(
    x: Tensor, t: float = 2.0, *, gather: Gather | None = None, impl: str = "auto"
) -> Tensor:
    """``log mean_{i<j} e^(−t ‖x_i − x_j‖²)`` of unit vectors (Wang and Isola 2020,
    arXiv:2005.10242), in one pass over the pairs without storing their similarities.

    Args:
        x: (N, D), N at least 2; normalised here.
        t: above 0.
        gather: the ranks whose embeddings are included; the value is the same on every rank.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(x=x)
    check_positive(t=t)
    ranks = ranks_of(gather)
    if len(x) < 2 and ranks is None:
        raise ValueError("uniformity needs at least 2 rows, got 1")
    with full_precision(x):
        z = unit(x, gather)
        rows = pairwise_logsumexp(z, z, 2 * t, exclude=(0,), gather=gather, impl=impl)
        # −t ‖x − y‖² = 2t ⟨x, y⟩ − 2t: float64, because large terms cancel
        total = logsumexp_over_ranks(rows.double(), gather) - 2 * t
        count = rows_of_all_ranks(x, gather).double()
        return (total - torch.log(count * (count - 1))).to(rows.dtype)


class HypersphereLoss(GatheringLoss):
    """Alignment and uniformity: constructor, defaults and values of
    ``lightly.loss.HypersphereLoss``.

    ``alignment(z_a, z_b, α) + λ (uniformity(z_a, t) + uniformity(z_b, t)) / 2``.

    Args:
        t, lam, alpha: t, λ and α of the formula.
        gather_distributed: include pairs with other ranks' embeddings in the uniformity.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        t: float = 1.0,
        lam: float = 1.0,
        alpha: float = 2.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_positive(t=t, alpha=alpha)
        check_numbers(lam=lam)
        self.t, self.lam, self.alpha = t, lam, alpha

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        check_embeddings(z_a=z_a, z_b=z_b)
        aligned = alignment(z_a, z_b, self.alpha, gather=self.gather)
        options: dict[str, Any] = {"gather": self.gather, "impl": self.impl}
        return aligned + self.lam / 2 * (
            uniformity(z_a, self.t, **options) + uniformity(z_b, self.t, **options)
        )
