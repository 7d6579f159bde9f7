"""The plot of a run: speed-up over eager, and extra memory, against N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .measure import Row

KINDS = {  # of implementations, with their colour
    "eager torch": ("#7c8595", ("eager",)),
    "torch.compile": ("#1f2937", ("compile",)),
    "the peer's code": ("#c2410c", ("lightly", "pml", "open-clip", "lejepa", "stable-pretraining")),
    "the peer's kernels": ("#ca8a04", ("inf-cl",)),
    "the peer's formula": ("#be185d", ("solo-learn", "supcontrast")),
    "a leaner form in plain torch": ("#15803d", ("gram", "linear-ce")),
    "torch's products, our loss": ("#7c3aed", ("logits",)),
    "ours in CUDA C++": ("#db2777", ("cuda",)),
    "ours as one Triton operator": ("#4f46e5", ("fused",)),
}
_COLORS = {"ours": "#2563eb", "tiled": "#0891b2"} | {
    name: color for color, names in KINDS.values() for name in names
}
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3b4048",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "grid.color": "#e6e8eb",
    "xtick.color": "#6b717a",
    "ytick.color": "#6b717a",
    "font.size": 10.5,
}


def plot_rows(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw one mode (fwdbwd if measured) to ``path``; one line per implementation and D.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
    except ImportError as error:
        raise ImportError("plots need matplotlib; try `pip install matplotlib`") from error

    modes = {row.mode for row in rows}
    mode = "fwdbwd" if "fwdbwd" in modes else min(modes)
    rows = [row for row in rows if row.mode == mode and row.status == "ok"]
    features = sorted({_dimensions(row)[1] for row in rows})
    sizes = sorted({_dimensions(row)[0] for row in rows})
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        speed, memory = figure.subplots(1, 2)
        figure.suptitle(f"{title}, {mode}", x=0.012, ha="left", fontsize=13, fontweight="bold")
        speed.set(title="speed-up over eager", xlabel="N")
        memory.set(title="extra memory, MiB", xlabel="N", yscale="log")
        speed.set_yscale("log", base=2)
        for name in dict.fromkeys(row.impl for row in rows):
            for d, dashes in zip(features, ("-", "--", ":", "-.") * len(features), strict=False):
                line = {
                    "color": _COLORS[name],
                    "linestyle": dashes,
                    "linewidth": 2.4 if name == "ours" else 1.6,
                    "marker": "o",
                    "markersize": 5,
                    "zorder": 3 if name == "ours" else 2,
                    "label": f"{name}, D={d}" if len(features) > 1 else name,
                }
                for axes, value in ((speed, _speedup), (memory, _mebibytes)):
                    points = [
                        (_dimensions(row)[0], value(row))
                        for row in rows
                        if row.impl == name and _dimensions(row)[1] == d and value(row)
                    ]
                    axes.plot(*zip(*sorted(points), strict=True) if points else ((), ()), **line)
        for axes in (speed, memory):
            axes.set_xscale("log", base=2)
            axes.margins(y=0.12)
            axes.xaxis.set_major_locator(FixedLocator(sizes))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        figure.legend(*speed.get_legend_handles_labels(), loc="outside right center", frameon=False)
        figure.savefig(path)


def _dimensions(row: Row) -> tuple[int, int]:
    n, d = row.shape.split("x")
    return int(n), int(d)


def _speedup(row: Row) -> float | None:
    return row.speedup_over_eager


def _mebibytes(row: Row) -> float | None:
    return row.extra_bytes and row.extra_bytes / 2**20


@dataclass(frozen=True)
class Ratios:
    """Of one operation: the others' time, and their memory, over ours, by implementation."""

    label: str
    time: dict[str, float]
    memory: dict[str, float]


def plot_ratios(ratios: Sequence[Ratios], path: Path) -> None:
    """Draw how many times the time and the memory of ours the other implementations take.

    Args:
        ratios: the operations, from top to bottom.
        path: the picture to write.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with rc_context(_STYLE):
        figure = Figure(figsize=(12, 1.9 + 0.4 * len(ratios)), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        both = figure.subplots(1, 2, sharey=True)
        for axes, quantity in zip(both, ("time", "memory"), strict=True):
            axes.set_title(f"{quantity} of others / ours", fontweight="bold")
            axes.set_xscale("log", base=2)
            axes.axvline(1, color="#111827", linewidth=1.2)
            for label, (color, names) in KINDS.items():
                points = [
                    (factors[name], i)
                    for i, factors in enumerate(getattr(x, quantity) for x in ratios)
                    for name in names
                    if name in factors
                ]
                if points:
                    style = {"s": 46, "color": color, "edgecolors": "white", "zorder": 3}
                    axes.scatter(*zip(*points, strict=True), label=label, **style)
            axes.set_yticks(range(len(ratios)), [x.label for x in ratios])
            axes.tick_params(axis="y", length=0, labelsize=10.5, labelcolor="#3b4048")
            axes.margins(x=0.08, y=0.06)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        both[0].invert_yaxis()
        handles = both[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", frameon=False, ncols=4)
        figure.savefig(path)
