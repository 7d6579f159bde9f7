"""A map of embeddings in two dimensions, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import principal_components, tsne
from ..metrics._checks import check_features, check_finite, checked_labels
from ._checks import checked_names
from .style import SOFT, color, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES, MOST_POINTS = 10, 1000
PERPLEXITY = 30.0


def plot_embedding_map(
    features: Tensor,
    labels: Tensor | None,
    classes: Sequence[str],
    title: str,
    path: str | Path | None = None,
) -> Figure:
    """Draw the t-SNE of normalised features, with classes by colour and name.

    Draws at most a thousand features, evenly spaced; with fewer than ten, the first two principal
    components.

    Args:
        features: (n, d) with n, d ≥ 2; normalised here, so that neighbours are those of kNN.
        labels: (n,) integers from 0; None: a single colour.
        classes: a name for each label. All but the ten most frequent classes are grey.
        title: title of the figure.
        path: file to write; None: no file.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: features or labels of the wrong shape or dtype, features that are
            not finite, or a label without a name.
    """
    check_features("features", features, rows=2)
    check_finite("features", features)
    if features.shape[1] < 2:
        raise ValueError(f"features must be (n, d) with d ≥ 2, got {tuple(features.shape)}")
    classes = checked_names("classes", classes)
    if labels is not None:
        labels = checked_labels("labels", labels, features)
        if int(labels.max()) >= len(classes):
            raise ValueError(
                f"classes must name labels up to {int(labels.max())}, got {len(classes)} names"
            )
    count = min(len(features), MOST_POINTS)
    chosen = torch.arange(count, device=features.device) * len(features) // max(1, count)
    unit = F.normalize(features[chosen].float(), dim=1)
    labels = None if labels is None else labels[chosen]
    if count < 10:
        coordinates = principal_components(unit, 2).coordinates.cpu()
    else:
        coordinates = tsne(unit, min(PERPLEXITY, (count - 1) / 3)).cpu()
    with picture(path, title, size=(7.2, 6.6)) as figure:
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        for side in axes.spines.values():
            side.set_visible(True)
            side.set_color("#e6e8eb")
        dots: dict[str, Any] = {"s": 15, "linewidths": 0, "alpha": 0.65}
        named: list[int] = []
        if labels is not None:
            labels = labels.cpu()
            counts = torch.bincount(labels, minlength=len(classes))
            named = counts.argsort(descending=True, stable=True)[:MOST_CLASSES].sort()[0].tolist()
            others = ~torch.isin(labels, torch.tensor(named))
        else:
            others = torch.ones(count, dtype=torch.bool)
        axes.scatter(*coordinates[others].T, color=SOFT, **dots)
        for index, label in enumerate(named):
            points = coordinates[labels == label]
            axes.scatter(*points.T, color=color(index), **dots)
        for index, label in enumerate(named):
            _name(axes, coordinates[labels == label], classes[label], color(index))
    return figure


def _name(axes, points: Tensor, text: str, shade: str) -> None:
    """Write a class's name at its medoid, on white."""
    from matplotlib.patheffects import withStroke

    if len(points):
        middle = points[torch.cdist(points, points).sum(1).argmin()].tolist()
        axes.annotate(
            text, middle, ha="center", va="center", color=shade, fontsize=14, fontweight="bold",
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )  # fmt: skip
