"""VICReg and VIbCReg: invariance, a lower bound on each feature's variance, no covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import check_choice, check_not_negative, check_numbers
from ..._operator import accumulation_dtype, full_precision
from ...distributed import (
    Gather,
    gather_rows,
    ranks_of,
    rows_of_all_ranks,
    scale_gradient,
    share_of_mean,
    sum_over_ranks,
)
from ...primitives.covariance_loss import CovarianceLoss, fused
from ...primitives.offdiagonal_norm import Standardized, norms_of_views, offdiagonal_norm
from ...primitives.offdiagonal_norm.routes import choose
from .._common import Gathering, GatheringLoss, check_batch, check_views

CONVENTIONS = {"lightly": 0.5, "solo_learn": 1.0}  # with the weight of each view's variance


def vicreg(
    z_a: Tensor,
    z_b: Tensor,
    lambda_param: float = 25.0,
    mu_param: float = 25.0,
    nu_param: float = 1.0,
    eps: float = 1e-4,
    *,
    convention: str = "lightly",
    gather: Gather | None = None,
    impl: str = "auto",
    route: str = "auto",
) -> Tensor:
    """VICReg's loss (Bardes et al. 2022, arXiv:2105.04906).

    ``λ mean (z_a − z_b)² + µ [v(z_a) + v(z_b)] / 2 + ν [c(z_a) + c(z_b)]``, with
    ``v(z) = mean_j max(0, 1 − √(Var z_j + eps))`` and ``c(z) = Σ_{i≠j} Cov(z)_ij² / D``, unbiased.
    The covariances, D × D, are never stored for N < D.

    Args:
        z_a: (N, D) embeddings of one view, N at least 2; or (N, …, D), where variances and
            covariances are computed at each location over the batch, and averaged.
        z_b: embeddings of the other view, of the same shape.
        lambda_param, mu_param, nu_param: λ, µ, ν.
        eps: added to the variance under the square root.
        convention: ``"lightly"``, as in the authors' code; or ``"solo_learn"``, which, like the
            paper, does not halve the variance term.
        gather: the ranks whose rows are included: the loss of the global batch.
        impl, route: see :func:`sslkernels.offdiagonal_norm`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape, or an unknown choice.
    """
    check_views(z_a=z_a, z_b=z_b)
    check_weights(lambda_param, mu_param, nu_param, eps)
    check_choice("convention", convention, tuple(CONVENTIONS))
    check_batch("vicreg", z_a, gather)
    if z_a.dim() == 2 and ranks_of(gather) is None:
        problem = CovarianceLoss(
            z_a,
            z_b,
            cross=False,
            standardized=None,
            off_diagonal=nu_param,
            power=1,
            variance=mu_param * CONVENTIONS[convention],
            variance_eps=eps,
            distance=lambda_param,
        )
        loss = fused(problem, impl=impl, route=route)
        if loss is not None:
            return loss
    with full_precision(z_a):
        z_a, z_b = (scale_gradient(z, gather) for z in (z_a, z_b))
        ranks = ranks_of(gather)
        if z_a.dim() > 2 and ranks is not None:
            # one collective instead of several at each location
            route = choose(route, len(z_a) * ranks.size, z_a.shape[-1])
            z_a, z_b = gather_rows(torch.stack([z_a, z_b], 1), gather).unbind(1)
            gather = None
        degrees = rows_of_all_ranks(z_a, gather) - 1
        variance: float | Tensor = 0.0
        covariance: float | Tensor = 0.0
        distance: float | Tensor = 0.0
        pairs = list(zip(_locations(z_a), _locations(z_b), strict=True))
        for pair in pairs:
            *norms, apart = norms_of_views(*pair, gather=gather, impl=impl, route=route)
            distance = distance + apart
            for square, diagonal in norms:
                variance = variance + hinge(diagonal / degrees, eps)
                covariance = covariance + square / (degrees**2 * z_a.shape[-1])
        return (
            lambda_param * share_of_mean(distance, z_a.numel(), gather)  # type: ignore[arg-type]
            + mu_param * CONVENTIONS[convention] * variance / len(pairs)
            + nu_param * covariance / len(pairs)
        )


def vibcreg(
    z_a: Tensor,
    z_b: Tensor,
    lambda_param: float = 25.0,
    mu_param: float = 25.0,
    nu_param: float = 200.0,
    eps: float = 1e-4,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
    route: str = "auto",
) -> Tensor:
    """VIbCReg's loss (Lee and Aune 2021, arXiv:2109.00783), as solo-learn states it.

    VICReg's invariance and variance terms, the latter not halved; the covariance term is that of
    features normalised over the batch: ``Σ_{i≠j} Corr(z)_ij² / D²`` of each view.

    Arguments, result and errors as for :func:`sslkernels.functional.vicreg`, but (N, D) only.
    """
    check_views(z_a=z_a, z_b=z_b)
    if z_a.dim() != 2:
        raise ValueError(f"vibcreg takes (N, D) embeddings, got {tuple(z_a.shape)}")
    check_weights(lambda_param, mu_param, nu_param, eps)
    check_batch("vibcreg", z_a, gather)
    unit = Standardized(eps=0.0, outer_eps=1e-12)  # columns of length √N
    if ranks_of(gather) is None:
        problem = CovarianceLoss(
            z_a,
            z_b,
            cross=False,
            standardized=unit,
            off_diagonal=nu_param,
            power=2,
            variance=mu_param,
            variance_eps=eps,
            distance=lambda_param,
        )
        loss = fused(problem, impl=impl, route=route)
        if loss is not None:
            return loss
    with full_precision(z_a):
        z_a, z_b = (scale_gradient(z, gather) for z in (z_a, z_b))
        count = rows_of_all_ranks(z_a, gather)
        variance: float | Tensor = 0.0
        covariance: float | Tensor = 0.0
        for z in (z_a, z_b):
            square, _ = offdiagonal_norm(z, columns=unit, gather=gather, impl=impl, route=route)
            covariance = covariance + square / (count * z.shape[1]) ** 2
            variance = variance + hinge(_variance(z, count, gather), eps)
        return (
            lambda_param * invariance(z_a, z_b, gather)
            + mu_param * variance
            + nu_param * covariance
        )


class VICRegLoss(GatheringLoss):
    """VICReg's loss: constructor, defaults and values of ``lightly.loss.VICRegLoss``.

    Formula, shapes and conventions: :func:`sslkernels.functional.vicreg`.

    Args:
        lambda_param, mu_param, nu_param: weights of invariance, variance and covariance.
        gather_distributed: compute the loss of the global batch.
        eps: added to the variance under the square root.
        convention: ``"lightly"`` or ``"solo_learn"``.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`. Both values
            of ``gather`` are the same here: ranks exchange rows or covariances, whichever is
            smaller.
    """

    def __init__(
        self,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 1.0,
        gather_distributed: bool = False,
        eps: float = 1e-4,
        *,
        convention: str = "lightly",
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_weights(lambda_param, mu_param, nu_param, eps)
        check_choice("convention", convention, tuple(CONVENTIONS))
        self.lambda_param, self.mu_param, self.nu_param = lambda_param, mu_param, nu_param
        self.eps, self.convention = eps, convention

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D) or (N, …, D)."""
        return vicreg(
            z_a, z_b, self.lambda_param, self.mu_param, self.nu_param, self.eps,
            convention=self.convention, gather=self.gather, impl=self.impl,
        )  # fmt: skip


class VIbCRegLoss(GatheringLoss):
    """VIbCReg's loss, with the weights and values of solo-learn's ``vibcreg_loss_func``.

    Formula and shapes: :func:`sslkernels.functional.vibcreg`.

    Args:
        lambda_param, mu_param, nu_param: weights of invariance, variance and correlation.
        gather_distributed: compute the loss of the global batch.
        eps: added to the variance under the square root.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 200.0,
        gather_distributed: bool = False,
        eps: float = 1e-4,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_weights(lambda_param, mu_param, nu_param, eps)
        self.lambda_param, self.mu_param, self.nu_param = lambda_param, mu_param, nu_param
        self.eps = eps

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return vibcreg(
            z_a, z_b, self.lambda_param, self.mu_param, self.nu_param, self.eps,
            gather=self.gather, impl=self.impl,
        )  # fmt: skip


def check_weights(lambda_param: float, mu_param: float, nu_param: float, eps: float) -> None:
    """Raise unless the weights are numbers and eps is not negative."""
    check_numbers(lambda_param=lambda_param, mu_param=mu_param, nu_param=nu_param)
    check_not_negative(eps=eps)


def invariance(z_a: Tensor, z_b: Tensor, gather: Gather | None) -> Tensor:
    """Mean squared difference over all ranks' entries."""
    dtype = accumulation_dtype(z_a)
    total = F.mse_loss(z_a.to(dtype), z_b.to(dtype), reduction="sum")
    return share_of_mean(total, z_a.numel(), gather)


def variance_and_covariance(
    z: Tensor, eps: float, *, gather: Gather | None = None, impl: str, route: str
) -> tuple[Tensor, Tensor]:
    """v(z) and c(z) of :func:`vicreg`, for z (N, D)."""
    degrees = rows_of_all_ranks(z, gather) - 1
    square, diagonal = offdiagonal_norm(
        z, columns="centered", gather=gather, impl=impl, route=route
    )
    return hinge(diagonal / degrees, eps), square / (degrees**2 * z.shape[1])


def _locations(z: Tensor) -> Sequence[Tensor]:
    """The (N, D) matrices at each location between the first and the last dimension of z."""
    return z.flatten(1, -2).unbind(1) if z.dim() > 2 else [z]


def hinge(variance: Tensor, eps: float) -> Tensor:
    """The mean hinge: by how much standard deviations fall short of one."""
    return F.relu(1 - torch.sqrt(variance + eps)).mean()


def _variance(z: Tensor, count: float | Tensor, gather: Gather | None) -> Tensor:
    """The unbiased variance of each column, (D,)."""
    z = z.to(accumulation_dtype(z))
    centered = z - sum_over_ranks(z.sum(0), gather) / count
    return sum_over_ranks(centered.square().sum(0), gather) / (count - 1)
