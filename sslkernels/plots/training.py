"""The curves of a run: accuracy against its baselines, loss, signs of collapse, learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._checks import shown
from ._checks import check_mapping, checked_numbers
from .style import COLORS, INK, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE_COLORS = ("#7c8595", "#c2410c", "#a16207")
SMALL = {"spread": "embedding_spread", "RankMe": "rankme", "learning rate": "learning_rate"}
NAMES = {"knn_accuracy": "kNN", "label_accuracy": "labels of the task"}


def plot_training(
    history: Sequence[Mapping[str, float]],
    baselines: Mapping[str, float],
    title: str,
    path: str | Path | None = None,
) -> Figure:
    """Draw the history of a run by epoch.

    Args:
        history: a row per epoch, as returned by ``train``: ``epoch``, ``loss``,
            ``learning_rate``, and if present ``embedding_spread``, ``rankme``, ``knn_accuracy`` and
            ``label_accuracy``.
        baselines: accuracies in [0, 1] by name, drawn as horizontal lines.
        title: title of the figure.
        path: file to write; None: no file.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: rows that are not mappings or lack an epoch, or values that are not
            numbers.
    """
    if not isinstance(history, Sequence) or isinstance(history, str | bytes):
        raise TypeError(f"history must be a list of rows, got {shown(history)}")
    for row in history:
        check_mapping("rows of history", row)
        if "epoch" not in row:
            raise ValueError("rows of history must have an epoch, got one without")
        for key in ("epoch", "loss", *SMALL.values(), *NAMES):
            if key in row:
                checked_numbers(f"{key} in history", [row[key]])
    check_mapping("baselines", baselines)
    checked_numbers("baselines", list(baselines.values()))
    small = {name: key for name, key in SMALL.items() if _curve(history, key)[0]}
    small = small or {"learning rate": "learning_rate"}
    with picture(path, title, size=(11, 4.8)) as figure:
        axes = figure.subplot_mosaic(
            [["accuracy", *["training loss"] * len(small)], ["accuracy", *small]],
            width_ratios=[2, *[2 / len(small)] * len(small)],
            height_ratios=[1.3, 1],
        )
        _draw_accuracy(axes["accuracy"], history, baselines)
        for name, key in {"training loss": "loss", **small}.items():
            axes[name].set_title(name)
            axes[name].plot(*_curve(history, key), color=COLORS[0], linewidth=2)
        for name in small:
            axes[name].set_ylim(0, None)
            axes[name].yaxis.set_major_formatter("{x:g}")
        for name, each in axes.items():
            each.set_xlim(0, max([row["epoch"] for row in history], default=1))
            each.locator_params("x", integer=True)
            if name != "training loss":
                each.set_xlabel("epoch")
    return figure


def _draw_accuracy(
    axes: Axes, history: Sequence[Mapping[str, float]], baselines: Mapping[str, float]
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
        epochs, values = _curve(history, key)
        if epochs:
            values = [100 * value for value in values]
            axes.plot(epochs, values, color=shade, marker="o", markersize=4, clip_on=False)
            axes.annotate(
                f"{name} {values[-1]:.1f}%", (epochs[-1], values[-1]), (0, 7),
                textcoords="offset points", ha="right", color=shade, fontweight="bold",
            )  # fmt: skip
    if not axes.lines:
        axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center", color=INK)


def _curve(history: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    """The epochs that have a value, and the values."""
    known = [row for row in history if key in row]
    return [row["epoch"] for row in known], [row[key] for row in known]
