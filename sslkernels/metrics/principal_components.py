"""Principal components: the directions of largest variance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_integers
from ._checks import check_features, check_finite


class PrincipalComponents(NamedTuple):
    """``coordinates`` (n, k), and the fraction of the variance in each, ``shares`` (k,)."""

    coordinates: Tensor
    shares: Tensor


@torch.no_grad()
def principal_components(features: Tensor, k: int = 2) -> PrincipalComponents:
    """Coordinates of centred features along the k directions of the largest variance.

    The sign of each direction makes its largest entry positive, so that plots of the same features
    are the same.

    Args:
        features: (n, d) floating point, n ≥ 2. Computed in float64.
        k: number of components, 1..min(n, d).

    Returns:
        Coordinates in the dtype of ``features``, and shares in float64.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 2 and finite, or
            ``k`` is out of range.
    """
    check_features("features", features, rows=2)
    check_finite("features", features)
    check_integers(1, min(features.shape), k=k)
    centered = features.double() - features.mean(0, dtype=torch.float64)
    scatter = centered.T @ centered
    if not scatter.isfinite().all():
        raise ValueError("features must have squares that fit float64, got larger ones")
    eigenvalues, vectors = torch.linalg.eigh(scatter)
    directions = vectors.flip(1)[:, :k]  # (d, k)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    coordinates = centered @ (directions * largest.sign())
    shares = eigenvalues.flip(0)[:k].clamp_min(0) / eigenvalues.clamp_min(0).sum()
    return PrincipalComponents(coordinates.to(features.dtype), shares)
