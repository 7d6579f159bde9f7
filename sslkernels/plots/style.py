"""The common style of all plots: size, colours, fonts, and saving."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._checks import check_paths, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK, SOFT, GRID = "#3b4048", "#6b717a", "#e6e8eb"
COLORS = (
    "#2563eb", "#c2410c", "#15803d", "#9333ea", "#0891b2",
    "#db2777", "#a16207", "#475569", "#dc2626", "#65a30d",
)  # fmt: skip
_STYLE: dict[RcKeyType, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titlepad": 10,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "lines.linewidth": 2.2,
    "lines.markersize": 5,
    "legend.frameon": False,
    "font.size": 10.5,
}


@contextmanager
def picture(path: str | Path | None, title: str, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of ``size`` in inches to draw into, which is written to ``path`` at the end.

    Notebooks display it, with or without pyplot.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: ``path`` is not a path, or ``title`` not a string.
        ValueError: ``path`` has a suffix that matplotlib does not support.
        OSError: ``path`` cannot be written.
    """
    if path is not None:
        check_paths(path=path)
    if not isinstance(title, str):
        raise TypeError(f"title must be a string, got {shown(title)}")
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib; try `pip install matplotlib`") from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.04, hspace=0.04)
        figure = Figure(figsize=size, dpi=150, layout=layout)
        FigureCanvasAgg(figure)
        figure._repr_png_ = lambda: _png(figure)  # type: ignore[attr-defined]
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color="#111827")
        yield figure
        if path is None:
            return
        try:
            figure.savefig(path, facecolor="white")
        except ValueError as error:
            line = str(error).splitlines()[0]
            raise ValueError(f"path must end in .png or the like: {line}") from error


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


def color(index: int) -> str:
    """The colour of line ``index``; repeats after ten."""
    return COLORS[index % len(COLORS)]


def end_labels(axes: Axes, x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) to the right of the ends of lines at ``x``, without overlap."""
    figure = axes.figure
    # so that positions are those of the final layout
    figure.draw_without_rendering()  # type: ignore[union-attr]
    height = 1.25 * 10.5 / 72 * figure.dpi  # of a line of text, in pixels
    ordered = sorted(labels, key=lambda label: axes.transData.transform((x, label[0]))[1])
    places = [float(axes.transData.transform((x, y))[1]) for y, _, _ in ordered]
    top, bottom = axes.bbox.y1, axes.bbox.y0
    for _ in range(200):  # push neighbours apart until they are
        moved = False
        for i in range(len(places) - 1):
            overlap = height - (places[i + 1] - places[i])
            if overlap > 0.5:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
                moved = True
        places = [min(max(place, bottom), top) for place in places]
        if not moved:
            break
    for place, (y, text, shade) in zip(places, ordered, strict=True):
        offset = (place - axes.transData.transform((x, y))[1]) * 72 / figure.dpi
        axes.annotate(
            text, xy=(x, y), xytext=(8, offset), textcoords="offset points", color=shade,
            va="center", annotation_clip=False,
        )  # fmt: skip
