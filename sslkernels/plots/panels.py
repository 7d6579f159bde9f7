"""Lines with standard deviations, in panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .style import SOFT, color, end_labels, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """A named line: means, and standard deviations drawn as a band.

    ``number`` chooses the colour; ``dashed`` distinguishes lines of the same colour.
    """

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    number: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with lines.

    Attributes:
        title: title of the axes.
        xlabel: label of the x axis.
        lines: the lines.
        is_share: values are fractions, drawn as percentages.
        is_log: whether x is logarithmic.
        ticks: labels at x = 0, 1, …; none: numbers.
        levels: horizontal lines by name, such as the accuracy of chance or raw pixels.
        from_zero: whether the y axis begins at 0.
    """

    title: str
    xlabel: str
    lines: Sequence[Line]
    is_share: bool = True
    is_log: bool = False
    ticks: Sequence[str] = ()
    levels: dict[str, float] = field(default_factory=dict)
    from_zero: bool = False


def plot_panels(panels: Sequence[Panel], title: str, path: str | Path | None = None) -> Figure:
    """Draw panels side by side, and write them to ``path`` if given.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
    """
    with picture(path, title, size=(5.4 * len(panels) + 0.4, 4.4)) as figure:
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _draw(axes, panel)
    return figure


def _draw(axes, panel: Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    scale = 100 if panel.is_share else 1
    axes.set(title=panel.title, xlabel=panel.xlabel)
    if panel.is_log:
        axes.set_xscale("log")
    xs = sorted({x for line in panel.lines for x in line.x})
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
    elif panel.is_log or len(xs) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(xs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    texts: dict[float, list[tuple[float, str, str]]] = {}
    for line in panel.lines:
        shade, dashes = color(line.number), (0, (4, 2)) if line.dashed else "solid"
        mean = [scale * value for value in line.mean]
        low = [scale * (m - s) for m, s in zip(line.mean, line.std, strict=True)]
        high = [scale * (m + s) for m, s in zip(line.mean, line.std, strict=True)]
        marker = "o" if len(line.x) <= 12 else None
        axes.fill_between(line.x, low, high, color=shade, alpha=0.14, linewidth=0)
        axes.plot(line.x, mean, color=shade, linestyle=dashes, marker=marker)
        texts.setdefault(line.x[-1], []).append((mean[-1], line.name, shade))
    for name, value in panel.levels.items():
        axes.axhline(scale * value, color=SOFT, linestyle=(0, (2, 2)), linewidth=1.2)
        axes.annotate(
            name, (0, scale * value), (4, -12), ("axes fraction", "data"), "offset points",
            color=SOFT, fontsize=9.5,
        )  # fmt: skip
    if panel.is_share:
        axes.yaxis.set_major_formatter("{x:g}%")
    axes.margins(y=0.08)
    if panel.from_zero:
        axes.set_ylim(0, None)
    for x, labels in texts.items():
        end_labels(axes, x, labels)
