"""LiDAR: the number of directions in which images differ more than their views do."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_have_values, check_positive, check_tensors
from .rankme import EPSILON, effective_rank


@torch.no_grad()
def lidar(features: Tensor, delta: float = 1e-4, epsilon: float = EPSILON) -> float:
    """The effective rank of linear discriminant analysis between images (Thilak et al. 2023,
    arXiv:2312.04000).

    Every image is a class, and its augmented views are the samples of the class. With the
    covariance Σ_b of the images' means, and Σ_w = the mean covariance within an image + δ I, LiDAR
    is ``exp(−Σ_k p_k ln p_k)``, ``p_k = λ_k / Σ_j λ_j + ε``, for the eigenvalues λ of
    ``Σ_w^(−½) Σ_b Σ_w^(−½)``. The authors use about 1,000 images of 50 views each. Both covariances
    are divided by the number of samples; the scale of λ does not matter.

    Args:
        features: (n, q, d) floating point: q ≥ 2 views of each of n ≥ 2 images. Computed in
            float64.
        delta: δ, above 0; in units of the squared features.
        epsilon: ε, above 0.

    Returns:
        LiDAR, between 1 and min(n − 1, d), which ε may exceed slightly; NaN if all means are
        equal, or a feature or its square is not finite.

    Raises:
        TypeError, ValueError: ``features`` are not (n, q, d) floating point with n, q ≥ 2,
            ``delta`` or ``epsilon`` is not above 0, or ``delta`` is below rounding errors where
            features have no variance.
    """
    check_tensors(features=features)
    check_have_values(features=features)
    if features.ndim != 3 or min(features.shape[:2]) < 2 or features.shape[2] == 0:
        raise ValueError(
            f"features must be (n, q, d) with n, q ≥ 2, got shape {tuple(features.shape)}"
        )
    check_positive(delta=delta, epsilon=epsilon)
    delta, epsilon = float(delta), float(epsilon)
    n, q, d = features.shape
    features = features.double()
    if not features.isfinite().all():
        return float("nan")
    means = features.mean(1)  # (n, d)
    between = _centered_gram(means) / n
    within = features.new_zeros(d, d)
    for image, mean in zip(features.split(256), means.split(256), strict=True):
        within += _gram((image - mean[:, None]).flatten(0, 1))
    within /= n * q
    within.diagonal().add_(delta)
    if not (within.isfinite().all() and between.isfinite().all()):  # out of the range of float64
        return float("nan")
    root, failed = torch.linalg.cholesky_ex(within)
    if failed:
        raise ValueError(f"delta must be larger for these features, got {delta}")
    # root rootᵀ = Σ_w: has the same eigenvalues as with Σ_w^½
    half = torch.linalg.solve_triangular(root, between, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
    eigenvalues = torch.linalg.eigvalsh(whitened).clamp_min(0)
    return effective_rank(eigenvalues, epsilon)


def _gram(x: Tensor) -> Tensor:
    return x.T @ x


def _centered_gram(x: Tensor) -> Tensor:
    return _gram(x - x.mean(0))
