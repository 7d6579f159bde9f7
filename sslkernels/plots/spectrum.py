"""The spectrum of features: its effective rank and its decay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..metrics import covariance_eigenvalues, fit_power_law, rankme, singular_values
from ..metrics._checks import check_features, check_finite
from ._checks import check_mapping
from .style import GRID, INK, color, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOOR = 1e-7  # of the plot, as a fraction of the largest


def plot_spectrum(
    features: Mapping[str, Tensor], title: str, path: str | Path | None = None
) -> Figure:
    """Draw singular values and eigenvalues of the covariance over their index, log-log.

    The singular values are on the left, with RankMe, which is computed from them; the eigenvalues
    on the right, with the power law whose exponent is α-ReQ, if one can be fitted. Each is divided
    by the largest.

    Args:
        features: (n, d) by name, n ≥ 2; such as the backbone's and the embeddings.
        title: title of the figure.
        path: file to write; None: no file.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: features of the wrong shape or dtype, not finite, or none.
    """
    check_mapping("features", features)
    if not features:
        raise ValueError("features must be of one name at least, got none")
    for name, x in features.items():
        check_features(f"features[{name!r}]", x, rows=2)
        check_finite(f"features[{name!r}]", x)
    with picture(path, title, size=(11, 4.4)) as figure:
        left, right = figure.subplots(1, 2)
        for index, (name, x) in enumerate(features.items()):
            shade = color(index)
            values = singular_values(x)
            label = f"{name}, d = {x.shape[1]}: RankMe {rankme(x):.1f}"
            left.plot(*_points(values), color=shade, label=label)
            values = covariance_eigenvalues(x)
            label = name
            try:
                law = fit_power_law(values)
            except ValueError:  # too few dimensions
                law = None
            if law is not None:
                ends = [law.first, law.last]
                fitted = [law.scale * i**-law.alpha / float(values[0]) for i in ends]
                right.plot(ends, fitted, color=shade, linewidth=1.3, linestyle=(0, (4, 2)))
                label = f"{name}: α = {law.alpha:.2f}"
            right.plot(*_points(values), color=shade, label=label, alpha=0.85)
        left.set_title("singular values")
        right.set_title("eigenvalues of the covariance, and power laws")
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="number", ylabel="relative to the largest")
            axes.set_ylim(bottom=max(FLOOR, axes.get_ylim()[0]), top=1.6)
            axes.grid(True, which="minor", axis="x", color=GRID, linewidth=0.5)
            axes.legend(loc="lower left", labelcolor=INK)
    return figure


def _points(values: Tensor) -> tuple[list[int], list[float]]:
    shares = (values / values[0]).tolist()
    shown = [share for share in shares if share > FLOOR]
    return list(range(1, len(shown) + 1)), shown
