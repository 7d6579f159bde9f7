"""α-ReQ: the decay of the spectrum of the features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_have_values, check_integers, check_tensors
from .spectrum import covariance_eigenvalues

FIRST, LAST = 11, 500


class PowerLaw(NamedTuple):
    """``λ_i = scale · i^(−alpha)``, fitted to the eigenvalues ``first`` to ``last``."""

    alpha: float
    scale: float
    first: int
    last: int


def alpha_req(features: Tensor, first: int = FIRST, last: int = LAST) -> float:
    """The exponent α of a power law fitted to the spectrum (Agrawal et al. 2022, "α-ReQ:
    Assessing Representation Quality in Self-Supervised Learning by measuring eigenspectrum decay",
    NeurIPS).

    The eigenvalues λ_1 ≥ λ_2 ≥ … of the features' centred covariance are fitted as
    ``ln λ_i = −α ln i + c`` by least squares with weights 1/i, over i = first … last. The fit and
    its start at 11 are those of Stringer et al. 2019 (Nature 571), whose code α-ReQ follows. An α
    near 1 is best: above it, few directions dominate; below it, the spectrum is noise.

    Args:
        features: (n, d) floating point, n ≥ 2. Computed in float64.
        first: index of the first eigenvalue of the fit, from 1.
        last: index of the last. The fit ends earlier if there are fewer eigenvalues, or if the
            remaining ones are indistinguishable from rounding errors.

    Returns:
        α; NaN if a feature is not finite.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 2, ``first`` or
            ``last`` is out of range, or fewer than 2 eigenvalues are left to fit.
    """
    eigenvalues = covariance_eigenvalues(features)
    _check_range(first, last)
    if not eigenvalues.isfinite().all():
        return float("nan")
    return fit_power_law(eigenvalues, first, last).alpha


def fit_power_law(eigenvalues: Tensor, first: int = FIRST, last: int = LAST) -> PowerLaw:
    """Fit ``ln λ_i = −α ln i + ln scale`` with weights 1/i, as in
    :func:`sslkernels.metrics.alpha_req`.

    Args:
        eigenvalues: (k,) floating point, in descending order, from index 1 on.
        first, last: range of the fit, both inclusive.

    Raises:
        TypeError, ValueError: an argument has the wrong type, the range is empty, or fewer than 2
            eigenvalues in it are above rounding errors.
    """
    check_tensors(eigenvalues=eigenvalues)
    check_have_values(eigenvalues=eigenvalues)
    if eigenvalues.ndim != 1 or len(eigenvalues) == 0:
        raise ValueError(f"eigenvalues must be (k,) with k ≥ 1, got {tuple(eigenvalues.shape)}")
    _check_range(first, last)
    smallest = eigenvalues[0] * len(eigenvalues) * torch.finfo(torch.float64).eps
    last = min(last, int((eigenvalues > smallest).sum()))
    if last <= first:
        raise ValueError(
            f"a power law needs at least 2 eigenvalues from number {first} on; "
            f"only {last} are above 0"
        )
    index = torch.arange(first, last + 1, dtype=torch.float64, device=eigenvalues.device)
    weight = 1 / index / (1 / index).sum()
    x, y = index.log(), eigenvalues[first - 1 : last].double().log()
    x_mean, y_mean = (weight * x).sum(), (weight * y).sum()
    slope = (weight * (x - x_mean) * (y - y_mean)).sum() / (weight * (x - x_mean) ** 2).sum()
    scale = torch.exp(y_mean - slope * x_mean)
    return PowerLaw(-float(slope), float(scale), first, last)


def _check_range(first: int, last: int) -> None:
    check_integers(1, first=first, last=last)
    if first >= last:
        raise ValueError(f"first must be below last, got {first} and {last}")
