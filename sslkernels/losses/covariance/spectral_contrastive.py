"""The spectral contrastive loss, from the Gram matrix of samples or of features."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_positive
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, gather_rows, ranks_of, scale_gradient
from ...primitives.offdiagonal_norm import offdiagonal_norm
from ...primitives.offdiagonal_norm.routes import choose
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings


def spectral_contrastive(
    z_a: Tensor,
    z_b: Tensor,
    mu: float = 1.0,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """Spectral contrastive loss (HaoChen et al. 2021, arXiv:2106.04156), as in its authors' code.

    ``[−2 mean_i ⟨a_i, b_i⟩ + mean_{i≠j} ⟨a_i, b_j⟩²] / µ``, with embeddings longer than √µ clipped
    to that length. The N × N scores are never stored for D < N.

    Args:
        z_a: (N, D) embeddings of one view, N at least 2.
        z_b: (N, D) embeddings of the other view.
        mu: µ, the square of the maximum length, above 0.
        gather: the ranks whose embeddings are negatives too. The value is the same on every rank.
        impl: see :func:`sslkernels.offdiagonal_norm`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    check_batch("spectral_contrastive", z_a, gather)
    check_positive(mu=mu)
    with full_precision(z_a):
        views = [_cut(scale_gradient(z, gather), mu) for z in (z_a, z_b)]
        a, b = gather_rows(torch.cat(views, 1), gather).chunk(2, 1)
        n = len(a)
        square, positives = offdiagonal_norm(a.T, b.T, impl=impl, route=_route(z_a, gather))
        return (square / (n * (n - 1)) - 2 * positives.mean()) / mu


class SpectralContrastiveLoss(GatheringLoss):
    """Spectral contrastive loss.

    Formula and shapes: :func:`sslkernels.functional.spectral_contrastive`.

    Args:
        mu: the square of the maximum length.
        gather_distributed: take the other ranks' embeddings as negatives.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`. Both values
            of ``gather`` are the same here: every rank holds the global batch.
    """

    def __init__(
        self, mu: float = 1.0, gather_distributed: bool = False, **gathering: Unpack[Gathering]
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_positive(mu=mu)
        self.mu = mu

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return spectral_contrastive(z_a, z_b, self.mu, gather=self.gather, impl=self.impl)


def _cut(z: Tensor, mu: float) -> Tensor:
    wide = z.to(accumulation_dtype(z))
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide * (mu**0.5 / length.clamp_min(mu**0.5))


def _route(z: Tensor, gather: Gather | None) -> str:
    """The route, from an estimate of the number of gathered rows."""
    ranks = ranks_of(gather)
    if ranks is None:
        return "auto"
    return choose("auto", z.shape[1], len(z) * ranks.size)
