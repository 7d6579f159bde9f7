"""Transformations of the columns of a and b before their product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..._checks import check_integers, check_not_negative
from ..._operator import accumulation_dtype


@dataclass(frozen=True)
class Standardized:
    """Columns (x − mean) / (√(variance + eps) + outer_eps), as in batch normalisation.

    Attributes:
        eps: added to the variance; by default that of torch's batch normalisation.
        correction: the variance divides by n − correction: 0 (biased) or 1 (unbiased).
        outer_eps: added to the standard deviation, after the square root.

    Raises:
        ValueError: a negative epsilon, both zero, or another correction.
    """

    eps: float = 1e-5
    correction: int = 0
    outer_eps: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative(eps=self.eps, outer_eps=self.outer_eps)
        check_integers(0, 1, correction=self.correction)
        if not self.eps + self.outer_eps > 0:
            raise ValueError("eps or outer_eps must be above 0, got 0 and 0")

    def __call__(self, x: Tensor) -> Tensor:
        """x (n, d) standardised, differentiable by torch's own operations."""
        x = x.to(accumulation_dtype(x))
        x = x - x.mean(0)
        variance = x.square().sum(0) / max(len(x) - self.correction, 1)
        return x / ((variance + self.eps).sqrt() + self.outer_eps)

    def numbers(self) -> list[float]:
        return [self.eps, float(self.correction), self.outer_eps]

    @staticmethod
    def of(numbers: Sequence[float]) -> Standardized:
        """The inverse of ``numbers``."""
        eps, correction, outer_eps = numbers
        return Standardized(eps, int(correction), outer_eps)


class Columns(NamedTuple):
    """(x − mean − rest) · scale; x itself if these are None.

    ``rest`` is the rounding error of ``mean``. With s the sum of squared deviations of a column,
    ``slope`` is 2 scale'(s) / scale²: the factor of the standardised column that a gradient g in
    it adds per unit of Σ g · column.
    """

    x: Tensor  # (n, d)
    mean: Tensor | None = None  # (d,)
    rest: Tensor | None = None
    scale: Tensor | None = None
    slope: Tensor | None = None

    def part(self, columns: slice) -> Columns:
        return Columns(self.x[:, columns], *(y if y is None else y[columns] for y in self[1:]))


def standardize(
    x: Tensor, mean: Tensor, squares: Tensor, count: float | Tensor, numbers: list[float]
) -> Columns:
    """From the mean and the squared deviations (float64) of ``count`` rows; no numbers: centre."""
    dtype = accumulation_dtype(x)
    if numbers:
        eps, correction, outer_eps = numbers
        degrees = max(count - correction, 1.0)
        deviation = (squares / degrees + eps).sqrt_()
        scale = 1 / (deviation + outer_eps)
        slope = (-1 / (degrees * deviation)).nan_to_num_(neginf=0.0)  # no pull where all is equal
    else:
        scale, slope = torch.ones_like(mean), torch.zeros_like(mean)
    rest = mean - mean.to(dtype)
    return Columns(x, *(y.to(dtype) for y in (mean, rest, scale, slope)))


def some_rows(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some rows of each at a time: of a CPU's cache, or enough for a GPU."""
    entries = 2**24 if matrices[0].is_cuda else 2**17
    return zip(*(x.split(max(1, entries // x.shape[1])) for x in matrices), strict=True)
