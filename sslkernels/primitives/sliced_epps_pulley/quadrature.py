"""The knots at which two characteristic functions are compared, and their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..._checks import check_integers, check_numbers, check_positive, check_sequence

MOST_KNOTS = 1 << 12


@dataclass(frozen=True)
class Quadrature:
    """Knots ``t = step, 2 step, …`` and weights for ``∫ |φ_empirical − φ_normal|² w dt``.

    The integrand is even and 0 at t = 0, so positive knots suffice. Weights may be 0.

    Attributes:
        step: spacing of the knots, above 0.
        weights: one per knot, including the window w(t).
    """

    step: float
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        check_positive(step=self.step)
        check_sequence("weights", self.weights, "numbers")
        if not 1 <= len(self.weights) <= MOST_KNOTS:
            raise ValueError(f"weights must be 1 to {MOST_KNOTS}, got {len(self.weights)}")
        for weight in self.weights:
            check_numbers(weights=weight)
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))

    @classmethod
    def trapezoid(cls, points: int, t_max: float = 3.0) -> Quadrature:
        """The trapezoidal rule over [−t_max, t_max] with the window ``e^(−t²/2)``.

        LeJEPA's 17 knots over [0, t_max] with doubled weights are 33 such points; BCS has 10.

        Args:
            points: at least 2; an even number has no point at 0.
            t_max: the end of the range, above 0.
        """
        check_integers(2, 2 * MOST_KNOTS, points=points)
        check_positive(t_max=t_max)
        spacing = 2 * t_max / (points - 1)
        step, stride = (spacing, 1) if points % 2 else (spacing / 2, 2)
        weights = [0.0] * ((points - 1) * stride // 2)
        for k in range(len(weights), 0, -stride):
            weights[k - 1] = 2 * spacing * math.exp(-((k * step) ** 2) / 2)
        weights[-1] /= 2
        return cls(step, tuple(weights))
