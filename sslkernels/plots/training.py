"""The curves of a run: accuracy against its baselines, loss, collapse indicator, learning rate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .style import COLORS, INK, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE_COLORS = ("#7c8595", "#c2410c", "#a16207")
NAMES = {"knn_accuracy": "kNN", "label_accuracy": "labels of the task"}


def plot_training(
    metrics_path: Path, baselines: Mapping[str, float], title: str, path: Path
) -> None:
    """Draw what ``metrics.jsonl`` holds of each epoch into a PNG.

    Args:
        metrics_path: a JSON object per line, with ``epoch``, ``loss``, ``learning_rate``,
            ``embedding_spread``, and ``knn_accuracy`` and ``label_accuracy`` where there are any.
            Of several lines for an epoch the last counts.
        baselines: accuracies in [0, 1] by name, drawn as horizontal lines.
        title: above the picture.
        path: the picture to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    rows = _read(metrics_path)
    with picture(path, title, size=(11, 4.8)) as figure:
        axes = figure.subplot_mosaic(
            [["accuracy", "loss", "loss"], ["accuracy", "spread", "rate"]],
            width_ratios=[2, 1, 1],
            height_ratios=[1.3, 1],
        )
        _draw_accuracy(axes["accuracy"], rows, baselines)
        axes["loss"].set_title("training loss")
        axes["spread"].set_title("spread of embeddings")
        axes["rate"].set_title("learning rate")
        for name, key in (("loss", "loss"), ("spread", "embedding_spread"), ("rate", "learning_rate")):
            axes[name].plot(*_curve(rows, key), color=COLORS[0], linewidth=2)
        axes["spread"].set_ylim(0, max([1.05, *_curve(rows, "embedding_spread")[1]]))
        axes["rate"].set_ylim(0, None)
        axes["rate"].yaxis.set_major_formatter("{x:g}")
        for each in axes.values():
            each.set_xlim(0, max([row["epoch"] for row in rows], default=1))
            each.xaxis.get_major_locator().set_params(integer=True)
        for name in ("accuracy", "spread", "rate"):
            axes[name].set_xlabel("epoch")


def _draw_accuracy(
    axes: Axes, rows: Sequence[dict[str, float]], baselines: Mapping[str, float]
) -> None:
    axes.set(title="accuracy", ylim=(0, 100))
    axes.yaxis.set_major_formatter("{x:.0f}%")
    for (name, accuracy), shade in zip(baselines.items(), BASELINE_COLORS, strict=False):
        axes.axhline(100 * accuracy, color=shade, linestyle=(0, (5, 3)), linewidth=1.4)
        axes.annotate(
            f"{name} {accuracy:.1%}", (1, 100 * accuracy), (0, -4), ("axes fraction", "data"),
            "offset points", ha="right", va="top", color=shade,
        )  # fmt: skip
    for (key, name), shade in zip(NAMES.items(), (COLORS[0], COLORS[2]), strict=True):
        epochs, values = _curve(rows, key)
        if epochs:
            values = [100 * value for value in values]
            axes.plot(epochs, values, color=shade, marker="o", markersize=4, clip_on=False)
            axes.annotate(
                f"{name} {values[-1]:.1f}%", (epochs[-1], values[-1]), (0, 7),
                textcoords="offset points", ha="right", color=shade, fontweight="bold",
            )  # fmt: skip
    if not axes.lines:
        axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center", color=INK)


def _read(metrics_path: Path) -> list[dict[str, float]]:
    rows = {}
    for line in metrics_path.read_text().splitlines():
        row = json.loads(line)
        rows[row["epoch"]] = row
    return [rows[epoch] for epoch in sorted(rows)]


def _curve(rows: Sequence[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of what a metric is known of."""
    known = [row for row in rows if row.get(key) is not None and not math.isnan(row[key])]
    return [row["epoch"] for row in known], [row[key] for row in known]
