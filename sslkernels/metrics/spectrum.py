"""The spectrum of features: of the matrix itself, and of its covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_features

CHUNK_SIZE = 8192


@torch.no_grad()
def singular_values(features: Tensor) -> Tensor:
    """Singular values of features (n, d), without centring.

    The square roots of the eigenvalues of the smaller Gram matrix, in float64: accurate to about
    1e-8 of the largest, and without a copy of the features.

    Args:
        features: (n, d) floating point, n ≥ 1.

    Returns:
        (min(n, d),) float64, in descending order, on the device of ``features``; NaN if a feature
        is not finite.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 1.
    """
    check_features("features", features)
    return _eigenvalues(_gram(features, None)).sqrt()


@torch.no_grad()
def covariance_eigenvalues(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of features (n, d), centred and divided by n.

    Args:
        features: (n, d) floating point, n ≥ 2.

    Returns:
        (min(n, d),) float64, in descending order, on the device of ``features``; for n < d the
        others are 0. NaN if a feature is not finite.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 2.
    """
    check_features("features", features, rows=2)
    mean = features.mean(0, dtype=torch.float64)
    return _eigenvalues(_gram(features, mean)) / len(features)


def _gram(features: Tensor, mean: Tensor | None) -> Tensor:
    """XᵀX or XXᵀ in float64, whichever is smaller, of the features minus ``mean``."""
    n, d = features.shape
    if n <= d:
        x = features.double() if mean is None else features.double() - mean
        return x @ x.T
    gram = features.new_zeros((d, d), dtype=torch.float64)
    for chunk in features.split(CHUNK_SIZE):
        x = chunk.double() if mean is None else chunk.double() - mean
        gram.addmm_(x.T, x)
    return gram


def _eigenvalues(symmetric: Tensor) -> Tensor:
    """The eigenvalues of a positive semi-definite matrix, in descending order."""
    if not symmetric.isfinite().all():
        return torch.full_like(symmetric[0], float("nan"))
    return torch.linalg.eigvalsh(symmetric).flip(0).clamp_min(0)
