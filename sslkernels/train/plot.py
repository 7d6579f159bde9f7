"""One picture of a run: the loss, and the accuracy against its baselines."""

from __future__ import annotations

from pathlib import Path

from .log import read_metrics


def plot_training(folder: Path, baselines: dict[str, float], title: str, path: Path) -> None:
    """Draw loss and kNN accuracy over epochs, into a PNG.

    Args:
        folder: of the run, with ``metrics.jsonl``.
        baselines: accuracies in [0, 1] by name, drawn as horizontal lines.
        title: above the picture.
        path: the picture to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib; `pip install sslkernels[train]` brings it"
        ) from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(folder)
    epochs = [row["epoch"] for row in rows]
    evaluated = [row for row in rows if "knn_accuracy" in row]

    style = {
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
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        accuracy_axes, loss_axes = figure.subplots(1, 2)
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")

        accuracy_axes.set(title="kNN accuracy on the test split", xlabel="epoch")
        accuracy_axes.set(xlim=(0, max(epochs, default=1)), ylim=(0, 100))
        accuracy_axes.yaxis.set_major_formatter("{x:.0f}%")
        colors = ("#c2410c", "#7c8595")
        for (name, accuracy), color in zip(baselines.items(), colors, strict=False):
            accuracy_axes.axhline(100 * accuracy, color=color, linestyle=(0, (5, 3)), linewidth=1.4)
            accuracy_axes.annotate(
                f"{name} {accuracy:.1%}",
                xy=(1, 100 * accuracy),
                xycoords=("axes fraction", "data"),
                xytext=(0, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                color=color,
            )
        if evaluated:
            x = [row["epoch"] for row in evaluated]
            y = [100 * row["knn_accuracy"] for row in evaluated]
            accuracy_axes.plot(
                x, y, color="#2563eb", linewidth=2.2, marker="o", markersize=4, clip_on=False
            )
            accuracy_axes.annotate(
                f"trained {y[-1]:.1f}%",
                xy=(x[-1], y[-1]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="right",
                color="#2563eb",
                fontweight="bold",
            )

        loss_axes.set(title="training loss", xlabel="epoch", xlim=(0, max(epochs, default=1)))
        loss_axes.plot(epochs, [row["loss"] for row in rows], color="#2563eb", linewidth=2.2)
        for axes in (accuracy_axes, loss_axes):
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.savefig(path)
