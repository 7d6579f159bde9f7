"""A loss of covariances as data."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..offdiagonal_norm.columns import Standardized


class CovarianceLoss(NamedTuple):
    """A weighted sum of terms of two views' features, (n, d), centred or standardised.

    With ``C = âᵀ b̂`` (cross), or ``C = x̂ᵀ x̂`` of each view x, whose terms are added.

    Attributes:
        a, b: the views.
        cross: see above.
        standardized: how; None: centred.
        off_diagonal: weight of ``Σ_{i≠j} C_ij²``.
        diagonal: weight of ``Σ_i (C_ii / n − 1)²``, if cross.
        variance: weight of ``Σ_j max(0, 1 − √(Var x_j + variance_eps))``, unbiased, if not cross.
        variance_eps: under the root.
        distance: weight of ``Σ (a − b)²``.
        samples: C by way of the views' Gram matrices, (n, n).
    """

    a: Tensor
    b: Tensor
    cross: bool
    standardized: Standardized | None
    off_diagonal: float
    diagonal: float = 0.0
    variance: float = 0.0
    variance_eps: float = 0.0
    distance: float = 0.0
    samples: bool = False
