"""Accuracy and invariance by depth: from the backbone through the projector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._checks import check_mapping, checked_names, checked_numbers
from .style import color, end_labels, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_depth(
    depths: Sequence[str],
    accuracies: Mapping[str, Sequence[float]],
    invariance: Mapping[str, Sequence[float]],
    title: str,
    path: str | Path | None = None,
) -> Figure:
    """Draw the accuracy at each depth, and the effect of each augmentation on features.

    Args:
        depths: names, starting with the backbone.
        accuracies: in [0, 1] by classifier, one per depth; may be empty (no labels).
        invariance: relative distances by augmentation, one per depth; may be empty.
        title: title of the figure.
        path: file to write; None: no file.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: names are not strings, values not numbers, or not one per depth, or
            there are none.
    """
    depths = checked_names("depths", depths)
    if not depths:
        raise ValueError("depths must be one at least, got none")
    accuracies, invariance = (
        _checked(name, panel, len(depths))
        for name, panel in (("accuracies", accuracies), ("invariance", invariance))
    )
    panels = [panel for panel in (accuracies, invariance) if panel]
    if not panels:
        raise ValueError("accuracies and invariance must not both be empty")
    with picture(path, title, size=(5.6 * len(panels) + 0.6, 4.4)) as figure:
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            is_accuracy = panel is accuracies
            scale = 100 if is_accuracy else 1
            for index, (name, values) in enumerate(panel.items()):
                points = [scale * value for value in values]
                axes.plot(points, color=color(index), marker="o", label=name, clip_on=False)
            axes.set_xticks(range(len(depths)), [_wrapped(depth) for depth in depths])
            axes.set_xlim(-0.15, len(depths) - 0.85)
            axes.grid(False, axis="x")
            if is_accuracy:
                axes.set_title("accuracy on the test split")
                axes.yaxis.set_major_formatter("{x:g}%")
                axes.margins(y=0.12)
            else:
                axes.set_title("change by one augmentation, relative to another image")
                axes.set_ylim(0, None)
            texts = [
                (scale * values[-1], f"{name} {_number(values[-1], is_accuracy)}", color(index))
                for index, (name, values) in enumerate(panel.items())
            ]
            end_labels(axes, len(depths) - 1, texts)
    return figure


def _checked(name: str, panel: Mapping[str, Sequence[float]], count: int) -> dict[str, list[float]]:
    check_mapping(name, panel)
    return {key: checked_numbers(f"{name}[{key!r}]", x, count) for key, x in panel.items()}


def _number(value: float, is_accuracy: bool) -> str:
    return f"{value:.1%}" if is_accuracy else f"{value:.3f}"


def _wrapped(depth: str) -> str:
    return depth.replace(" ", "\n", 1)
