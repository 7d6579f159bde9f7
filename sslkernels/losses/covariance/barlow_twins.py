"""Barlow Twins: the cross-correlation of two views is pulled towards the identity."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from ..._checks import check_choice, check_flags, check_numbers
from ..._operator import full_precision
from ...distributed import Gather, ranks_of, rows_of_all_ranks, scale_gradient
from ...primitives.covariance_loss import CovarianceLoss, fused
from ...primitives.offdiagonal_norm import Standardized, offdiagonal_norm
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings

STANDARDIZED = {
    "lightly": Standardized(),
    "solo_learn": Standardized(),
    "stable_pretraining": Standardized(eps=0.0, correction=1, outer_eps=1e-5),
}
SCALE = {"lightly": 1.0, "solo_learn": 0.025, "stable_pretraining": 1.0}


def barlow_twins(
    z_a: Tensor,
    z_b: Tensor,
    lambda_param: float = 5e-3,
    *,
    convention: str = "lightly",
    sync_statistics: bool = True,
    gather: Gather | None = None,
    impl: str = "auto",
    route: str = "auto",
) -> Tensor:
    """Barlow Twins' loss (Zbontar et al. 2021, arXiv:2103.03230).

    ``Σ_i (C_ii − 1)² + λ Σ_{i≠j} C_ij²``, with C = ẑ_aᵀ ẑ_b / N of features standardised over the
    batch. C, which is D × D, is never stored for N < D.

    Args:
        z_a: (N, D) embeddings of one view, N at least 2.
        z_b: (N, D) embeddings of the other view.
        lambda_param: λ. The authors' code and solo-learn train with 0.0051.
        convention: ``"lightly"`` divides by √(biased variance + 1e-5), like batch normalisation and
            the authors' code; ``"solo_learn"`` multiplies that loss by 0.025;
            ``"stable_pretraining"`` divides by the unbiased standard deviation + 1e-5.
        sync_statistics: with ``gather``, standardise over the global batch, which gives the loss
            of one process with that batch (the authors' SyncBatchNorm). False: standardise over
            each rank's rows, and average C over ranks (lightly's ``gather_distributed=True``).
        gather: the ranks whose rows are included. The value is the same on every rank.
        impl, route: see :func:`sslkernels.offdiagonal_norm`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape, or an unknown choice.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    check_numbers(lambda_param=lambda_param)
    check_flags(sync_statistics=sync_statistics)
    check_choice("convention", convention, tuple(STANDARDIZED))
    standardized = STANDARDIZED[convention]
    check_batch("barlow_twins", z_a, gather)
    if ranks_of(gather) is None:
        problem = CovarianceLoss(
            z_a,
            z_b,
            cross=True,
            standardized=standardized,
            off_diagonal=SCALE[convention] * lambda_param,
            diagonal=SCALE[convention],
        )
        loss = fused(problem, impl=impl, route=route)
        if loss is not None:
            return loss
    with full_precision(z_a):
        columns: str | Standardized = standardized
        count: int | Tensor = rows_of_all_ranks(z_a, gather)
        z_a, z_b = (scale_gradient(z, gather) for z in (z_a, z_b))
        ranks = ranks_of(gather)
        if ranks is not None and not sync_statistics:
            check_batch("barlow_twins without sync_statistics", z_a, None)
            z_a = standardized(z_a) / (len(z_a) * ranks.size)
            z_b, columns, count = standardized(z_b), "raw", 1
        square, diagonal = offdiagonal_norm(
            z_a, z_b, columns=columns, gather=gather, impl=impl, route=route
        )
        on_diagonal = (diagonal / count - 1).square().sum()
        return SCALE[convention] * (on_diagonal + lambda_param / count**2 * square)


class BarlowTwinsLoss(GatheringLoss):
    """Barlow Twins' loss: constructor, defaults and values of ``lightly.loss.BarlowTwinsLoss``.

    Formula, shapes and conventions: :func:`sslkernels.functional.barlow_twins`.

    Args:
        lambda_param: λ.
        gather_distributed: compute the loss of the global batch.
        convention: ``"lightly"``, ``"solo_learn"`` or ``"stable_pretraining"``.
        sync_statistics: whether ranks standardise over the global batch. lightly does not.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`. Both values
            of ``gather`` are the same here: ranks exchange rows or C, whichever is smaller.
    """

    def __init__(
        self,
        lambda_param: float = 5e-3,
        gather_distributed: bool = False,
        *,
        convention: str = "lightly",
        sync_statistics: bool = True,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_choice("convention", convention, tuple(STANDARDIZED))
        check_numbers(lambda_param=lambda_param)
        check_flags(sync_statistics=sync_statistics)
        self.lambda_param = lambda_param
        self.convention, self.sync_statistics = convention, sync_statistics

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return barlow_twins(
            z_a, z_b, self.lambda_param, convention=self.convention,
            sync_statistics=self.sync_statistics, gather=self.gather, impl=self.impl,
        )  # fmt: skip
