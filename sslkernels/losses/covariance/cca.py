"""Canonical correlations of two views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...distributed import Gather, all_reduce, ranks_of, scale_gradient
from ...primitives._operator import accumulation_dtype
from .._common import GatheringLoss, check_embeddings, full_precision
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
    the exact gradient, also where correlations coincide; one process with fewer rows than features
    decomposes matrices of N × N, not D × D. Derivations: ``covariance/README.md``.

    Args:
        z_a, z_b: (N, D) embeddings of the views, N at least 2; centred here.
        ridge: above 0; what keeps a covariance invertible.
        dimensions: sum only so many of the largest correlations; None: all.
        gather: the ranks whose rows the covariances are of; the value is the same on every rank.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    _check(ridge, dimensions)
    n, d = z_a.shape
    ranks = ranks_of(gather)
    if n < 2 and ranks is None:
        raise ValueError("cca needs at least 2 rows, got 1")
    if dimensions is not None and dimensions > d:
        raise ValueError(f"dimensions must be at most D = {d}, got {dimensions}")
    with full_precision(z_a):
        z = scale_gradient(torch.cat([z_a, z_b], 1), gather).double()  # (N, 2D)
        if ranks is None:
            z = z - z.mean(0)
            if n < d:
                z = torch.cat([x @ _row_space(x) for x in z.chunk(2, 1)], 1)
            covariance = z.T @ z / (n - 1)
        else:
            count = all_reduce(z.new_full((), n), "sum", ranks)
            z = z - all_reduce(z.sum(0), "sum", ranks) / count
            covariance = all_reduce(z.T @ z, "sum", ranks) / (count - 1)
        correlations = _SumOfCorrelations.apply(covariance, ridge, dimensions)[0]
        return -correlations.to(accumulation_dtype(z_a))


class CCALoss(GatheringLoss):
    """Minus the sum of canonical correlations: see :func:`sslkernels.functional.cca`.

    Args:
        ridge: above 0; what keeps a covariance invertible.
        dimensions: sum only so many of the largest correlations; None: all.
        gather_distributed: take the covariances of all ranks' rows.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``ridge`` not above 0, or ``dimensions`` below 1.
    """

    def __init__(
        self,
        ridge: float = 1e-4,
        dimensions: int | None = None,
        gather_distributed: bool = False,
        **gathering,
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        _check(ridge, dimensions)
        self.ridge, self.dimensions = ridge, dimensions

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return cca(z_a, z_b, self.ridge, self.dimensions, gather=self.gather)


class _SumOfCorrelations(torch.autograd.Function):
    """Of the covariance (2D, 2D) of both views; its gradient has three distinct blocks."""

    @staticmethod
    def forward(covariance, ridge, dimensions):
        d = covariance.shape[0] // 2
        ridged = covariance + ridge * torch.eye(
            2 * d, dtype=covariance.dtype, device=covariance.device
        )
        root_a, root_b = (torch.linalg.cholesky(x) for x in (ridged[:d, :d], ridged[d:, d:]))
        whitened = torch.linalg.solve_triangular(root_a, covariance[:d, d:], upper=False)
        whitened = torch.linalg.solve_triangular(root_b.mT, whitened, upper=True, left=False)
        u, values, vh = torch.linalg.svd(whitened)
        kept = nonzero(values, d)
        u, values, vh = (u * kept)[:, :dimensions], values[:dimensions], vh[:dimensions]
        u = torch.linalg.solve_triangular(root_a.mT, u, upper=True)  # the canonical directions
        v = torch.linalg.solve_triangular(root_b.mT, vh.mT * kept[:dimensions], upper=True)
        own = [-0.5 * (x * values) @ x.mT for x in (u, v)]
        across = u @ v.mT / 2  # half in each of the two blocks that hold S_ab
        gradient = torch.cat([torch.cat([own[0], across], 1), torch.cat([across.mT, own[1]], 1)])
        return values.sum(), gradient

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        return grad * ctx.saved_tensors[0], None, None


def _row_space(x: Tensor) -> Tensor:
    """An orthonormal basis (D, N) of a space that holds the rows; constant, see the README."""
    return torch.linalg.qr(x.detach().mT).Q


def _check(ridge: float, dimensions: int | None) -> None:
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    if dimensions is not None and dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, got {dimensions}")
