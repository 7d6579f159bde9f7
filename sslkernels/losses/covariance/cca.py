"""Canonical correlations of two views."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import check_integers, check_positive
from ..._operator import Differentiable, accumulation_dtype, full_precision
from ...distributed import (
    Gather,
    ranks_of,
    rows_of_all_ranks,
    scale_gradient,
    sum_over_ranks,
)
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings
from .nuclear_norm import nonzero


def cca(
    z_a: Tensor,
    z_b: Tensor,
    ridge: float = 1e-4,
    dimensions: int | None = None,
    *,
    gather: Gather | None = None,
) -> Tensor:
    """Minus the sum of canonical correlations (Hotelling 1936, *Relations between two sets of
    variates*; as the loss of deep CCA: Andrew et al. 2013).

    The correlations are the singular values of ``S_aa^(−1/2) S_ab S_bb^(−1/2)``, with
    ``S_aa = AᵀA / (N − 1) + ridge I`` of the centred view A, and so on. Computed in float64 with
    the exact gradient, even where correlations coincide; a single process with fewer rows than
    features decomposes N × N instead of D × D matrices. Derivations: ``covariance/README.md``.

    Args:
        z_a, z_b: (N, D) embeddings of the views, N at least 2; centred here.
        ridge: above 0; keeps the covariances invertible.
        dimensions: number of largest correlations to sum; None means all.
        gather: the ranks whose rows enter the covariances; the value is the same on every rank.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    _check(ridge, dimensions)
    n, d = z_a.shape
    ranks = ranks_of(gather)
    check_batch("cca", z_a, gather)
    if dimensions is not None and dimensions > d:
        raise ValueError(f"dimensions must be at most D = {d}, got {dimensions}")
    with full_precision(z_a):
        a, b = (scale_gradient(z, gather).double() for z in (z_a, z_b))
        if ranks is None and n < d:
            a, b = (z @ _row_space(z) for z in (a, b))
        try:
            correlations: Tensor = _SumOfCorrelations.apply(a, b, ridge, dimensions, gather)[0]
        except torch.linalg.LinAlgError as error:
            if (a.isfinite().all() & b.isfinite().all()).item():
                raise ValueError(
                    f"ridge must be larger for these z_a and z_b, got {ridge}"
                ) from error
            correlations = (a.sum() + b.sum()) * float("nan")
        return -correlations.to(accumulation_dtype(z_a))


class CCALoss(GatheringLoss):
    """Minus the sum of canonical correlations: see :func:`sslkernels.functional.cca`.

    Args:
        ridge: above 0; keeps the covariances invertible.
        dimensions: number of largest correlations to sum; None means all.
        gather_distributed: compute the covariances over all ranks' rows.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``ridge`` not above 0, or ``dimensions`` below 1.
    """

    def __init__(
        self,
        ridge: float = 1e-4,
        dimensions: int | None = None,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        _check(ridge, dimensions)
        self.ridge, self.dimensions = ridge, dimensions

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return cca(z_a, z_b, self.ridge, self.dimensions, gather=self.gather)


class _SumOfCorrelations(Differentiable):
    @staticmethod
    def forward(
        a: Tensor, b: Tensor, ridge: float, dimensions: int | None, gather: Gather | None
    ) -> tuple[Tensor, ...]:
        count = rows_of_all_ranks(a, gather)
        a, b = (z - sum_over_ranks(z.sum(0), gather) / count for z in (a, b))
        products = sum_over_ranks(torch.stack([a.T @ a, b.T @ b, a.T @ b]), gather)
        own_a, own_b, across = products / (count - 1)
        ridges = ridge * torch.eye(a.shape[1]).to(a)
        root_a, root_b = (torch.linalg.cholesky(own + ridges) for own in (own_a, own_b))
        whitened = torch.linalg.solve_triangular(root_a, across, upper=False)
        whitened = torch.linalg.solve_triangular(root_b.mT, whitened, upper=True, left=False)
        u, values, vh = torch.linalg.svd(whitened)
        u, values, v = u[:, :dimensions], values[:dimensions], vh.mT[:, :dimensions]
        kept = nonzero(values, a.shape[1])
        directions_a = torch.linalg.solve_triangular(root_a.mT, u * kept, upper=True)
        directions_b = torch.linalg.solve_triangular(root_b.mT, v * kept, upper=True)
        variates = a @ directions_a, b @ directions_b  # (N, k)
        return values.sum(), *variates, directions_a, directions_b, values / (count - 1), count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.gather = inputs[-1]
        ctx.save_for_backward(*output[1:], *inputs[:2])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def gradients(
        ctx: Any, saved: tuple[Tensor, ...], grad: Tensor, *rest: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, y, directions_a, directions_b, values, count, *_ = saved
        grad = sum_over_ranks(grad, ctx.gather)
        grad_a = (y / (count - 1) - x * values) @ directions_a.T
        grad_b = (x / (count - 1) - y * values) @ directions_b.T
        return grad * grad_a, grad * grad_b, None, None, None


def _row_space(x: Tensor) -> Tensor:
    """An orthonormal basis (D, N) of a space containing the rows; constant, see the README."""
    return torch.linalg.qr(x.detach().mT).Q


def _check(ridge: float, dimensions: int | None) -> None:
    check_positive(ridge=ridge)
    if dimensions is not None:
        check_integers(1, dimensions=dimensions)
