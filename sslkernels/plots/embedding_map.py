"""A map of embeddings: their two principal components, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..metrics import principal_components
from .style import SOFT, color, picture

MOST_CLASSES = 10


def plot_embedding_map(
    features: Tensor, labels: Tensor | None, classes: Sequence[str], title: str, path: Path
) -> None:
    """Draw the first two principal components of unit features, classes by colour and name.

    Args:
        features: (n, d) with n, d ≥ 2; normalised here, so that distances are angles.
        labels: (n,) int64; None: all in one colour.
        classes: names of the labels. Beyond the ten most frequent, classes are grey.
        title: above the picture.
        path: the picture to write.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: features of another shape or dtype.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    coordinates, shares = principal_components(unit, 2)
    coordinates = coordinates.cpu()
    with picture(path, title, size=(7.2, 6.4)) as figure:
        axes = figure.subplots()
        axes.set(
            xlabel=f"first component, {shares[0]:.0%} of the variance",
            ylabel=f"second component, {shares[1]:.0%}", xticks=[], yticks=[],
        )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        for side in axes.spines.values():
            side.set_visible(True)
        dots = {"s": 11, "linewidths": 0, "alpha": 0.65}
        named: list[int] = []
        if labels is not None:
            labels = labels.cpu()
            counts = torch.bincount(labels, minlength=len(classes))
            named = counts.argsort(descending=True, stable=True)[:MOST_CLASSES].sort()[0].tolist()
            others = ~torch.isin(labels, torch.tensor(named))
        else:
            others = torch.ones(len(features), dtype=torch.bool)
        axes.scatter(*coordinates[others].T, color=SOFT, **dots)
        for index, label in enumerate(named):
            points = coordinates[labels == label]
            axes.scatter(*points.T, color=color(index), **dots)
        for index, label in enumerate(named):
            _name(axes, coordinates[labels == label], classes[label], color(index))


def _name(axes, points: Tensor, text: str, shade: str) -> None:
    """Write a class's name where its points are dense: at the median, on white."""
    from matplotlib.patheffects import withStroke

    if len(points):
        axes.annotate(
            text, points.median(0).values.tolist(), ha="center", va="center", color=shade,
            fontsize=14, fontweight="bold",
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )  # fmt: skip
