"""The plots of an evaluated run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plots import plot_depth, plot_embedding_map, plot_spectrum, plot_training, plot_views
from ..train import Run
from ..train.datasets import Digits
from ..train.log import read_metrics
from .depth import BACKBONE
from .evaluate import Evaluation

ACCURACIES = {"kNN": "knn_accuracy", "linear probe": "linear_accuracy"}


def draw(run: Run, evaluation: Evaluation, baselines: dict[str, float]) -> list[Path]:
    """Draw into the folder of the run; returns the files written.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the folder cannot be written.
    """
    title = f"{run.name} on {run.data.name}"
    depths = evaluation.numbers["depths"]
    names = [row["depth"] for row in depths]
    paths = {
        name: run.folder / f"{name}.png"
        for name in ("training", "depth", "spectrum", "map", "views")
    }
    plot_training(read_metrics(run.folder), baselines, title, paths["training"])
    accuracies = {
        label: [row[key] for row in depths]
        for label, key in ACCURACIES.items()
        if depths[0][key] is not None
    }
    invariance = {
        name: [_or_nan(row["relative_distance"][name]) for row in depths]
        for name in depths[0]["relative_distance"]
    }
    plot_depth(names, accuracies, invariance, f"{title}: by depth", paths["depth"])
    ends = {name: evaluation.train[name] for name in dict.fromkeys((BACKBONE, names[-1]))}
    plot_spectrum(ends, f"{title}: spectrum of the training split's features", paths["spectrum"])
    plot_embedding_map(
        evaluation.test[BACKBONE],
        evaluation.test_labels if run.data.classes else None,
        run.data.classes,
        f"{title}: test features by t-SNE",
        paths["map"],
    )
    labels, shown = training_views(run)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if not isinstance(run.data, Digits):
        mean, std = run.recipe.views()[0].mean, run.recipe.views()[0].std
    plot_views(
        shown, f"{title}: what the network sees", paths["views"], names=labels, mean=mean, std=std
    )
    return list(paths.values())


def training_views(run: Run) -> tuple[Sequence[str], list[Tensor]]:
    """The images in the method's inputs for one batch, each (n, C, size, size), and their names."""
    batch = next(iter(run.data.batches()))
    names, shown = [], []
    for number, images in enumerate(run.method.inputs(batch), 1):
        if images.ndim == 5:  # several tiles of each image, in three columns
            names.append("tiles")
            shown.append(torch.stack([mosaic(tiles) for tiles in images]))
        elif images.ndim == 4 and images.shape[1] in (1, 3):
            names.append(f"view {number}")
            shown.append(images)
    return names, shown


def mosaic(tiles: Tensor, columns: int = 3) -> Tensor:
    """One image (C, height, width) from tiles (n, C, side, side), by rows, with dark gaps."""
    framed = F.pad(tiles, (0, 1, 0, 1), value=float(tiles.min()))
    rows = [torch.cat(list(row), 2) for row in framed.split(columns)]
    return torch.cat(rows, 1)[:, :-1, :-1]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
