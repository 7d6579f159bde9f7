"""A loss of covariances as data."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..offdiagonal_norm.columns import Standardized


class CovarianceLoss(NamedTuple):
    """A weighted sum of terms of two views' features, (n, d), centred or standardised.

    With ``C = âᵀ b̂ / n`` (cross), or ``C = x̂ᵀ x̂ / n`` for each view x, whose terms are added; for
    centred features the divisor is n − 1.

    Attributes:
        a, b: the views.
        cross: see above.
        standardized: the standardisation; None: centred.
        off_diagonal: weight of ``Σ_{i≠j} C_ij² / d^power``.
        power: of the number of features.
        diagonal: weight of ``Σ_i (C_ii − 1)²``, if cross.
        variance: weight of ``mean_j max(0, 1 − √(Var x_j + variance_eps))``, if not cross.
        variance_eps: added to the unbiased variance under the square root.
        distance: weight of ``mean (a − b)²``.
        samples: compute C through the views' Gram matrices, (n, n).
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
        """The weights of sums: of squared off-diagonal entries of âᵀ b̂, of diagonal terms, of
        variance terms, then ``variance_eps``, and of squared distances."""
        n, d = self.a.shape
        degrees = n if self.standardized else n - 1
        return [
            self.off_diagonal / (degrees**2 * d**self.power),
            self.diagonal,
            self.variance / d,
            self.variance_eps,
            self.distance / (n * d),
        ]
