"""A loss of covariances as data."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..offdiagonal_norm.columns import Standardized


class CovarianceLoss(NamedTuple):
    """A weighted sum of terms of two views' features, (n, d), centred or standardised.

    With ``C = âᵀ b̂ / n`` (cross), or ``C = x̂ᵀ x̂ / n`` of each view x, whose terms are added; the
    divisor of centred features is n − 1.

    Attributes:
        a, b: the views.
        cross: see above.
        standardized: how; None: centred.
        off_diagonal: weight of ``Σ_{i≠j} C_ij² / d^power``.
        power: of the number of features.
        diagonal: weight of ``Σ_i (C_ii − 1)²``, if cross.
        variance: weight of ``mean_j max(0, 1 − √(Var x_j + variance_eps))``, if not cross.
        variance_eps: under the root, beside the unbiased variance.
        distance: weight of ``mean (a − b)²``.
        samples: C by way of the views' Gram matrices, (n, n).
    """

    a: Tensor
    b: Tensor
    cross: bool
    standardized: Standardized | None
    off_diagonal: float
    power: int = 0
    diagonal: float = 0.0
    variance: float = 0.0
    variance_eps: float = 0.0
    distance: float = 0.0
    samples: bool = False

    def weights(self) -> list[float]:
        """Those of sums: of squares off the diagonal of âᵀ b̂, of the diagonal's terms, of the
        variances', then ``variance_eps``, and of squared distances."""
        n, d = self.a.shape
        degrees = n if self.standardized else n - 1
        return [
            self.off_diagonal / (degrees**2 * d**self.power),
            self.diagonal,
            self.variance / d,
            self.variance_eps,
            self.distance / (n * d),
        ]
