"""RankMe: the effective dimension of the embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_positive
from .spectrum import singular_values

EPSILON = 1e-7


def rankme(features: Tensor, epsilon: float = EPSILON) -> float:
    """The effective rank of features (Garrido et al. 2022, arXiv:2210.02885, equation 1).

    ``exp(−Σ_k p_k ln p_k)`` with ``p_k = σ_k / Σ_j σ_j + ε``, for the singular values σ of the
    features without centring. It is between 1, where all features are multiples of one vector, and
    min(n, d), where all directions are used equally; with ε it may slightly exceed that. The
    authors use n = 25,600 and ε = 1e-7. A larger ε counts unused directions: with 1e-5 and d =
    2048, rank 50 becomes 63.

    Args:
        features: (n, d) floating point. Computed in float64.
        epsilon: ε, above 0.

    Returns:
        RankMe; NaN if all features are 0, or one is not finite.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 1, or
            ``epsilon`` is not above 0.
    """
    check_positive(epsilon=epsilon)
    return effective_rank(singular_values(features), float(epsilon))


def effective_rank(values: Tensor, epsilon: float = EPSILON) -> float:
    """The exponential of the entropy of ``values``, as fractions of their sum, plus ``epsilon``."""
    shares = values / values.sum() + epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))
