"""The picture and the page of ``bench.curves``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sslkernels.plots.style import COLORS, picture

DOCUMENTS = Path(__file__).parent.parent / "docs"
PICTURE, PAGE = "same_curve.png", "same_curve.md"
SMALLEST = 1e-17  # what a difference of 0 is drawn as
WINDOW = 5  # steps that a drawn difference is the largest of
TITLES = {"simclr": "SimCLR", "vicreg": "VICReg", "dino": "DINO"}
Content = dict[str, Any]

OPENING = """# The same curve

Does training change when a loss is replaced by ours? This page compares {peer} with sslkernels on
SimCLR, VICReg and DINO, trained on handwritten digits from the same seeds. It is written by
`{command}`; do not edit it.

![Loss curves and their differences]({picture})

Two runs in float32 drift apart after a few steps, because training amplifies the last bit of every
sum. A run with lightly's loss drifts as far from itself when one weight is changed by one bit. The
drift therefore says nothing about a loss, and three other comparisons are made:

- **On the same embeddings.** Along a run with lightly's loss, every step also computes ours. The
  table has the largest relative error over all {steps} steps, of the value and of the gradient (by
  norm), against lightly's loss in float64.
- **In float64** two free runs have one curve. The table has the largest relative difference of
  their losses over {double} steps.
- **After training** kNN accuracy is equal within the spread of seeds.

"""
CLOSING = """
Accuracies are means ± standard deviations over {seeds} seeds after {epochs} epochs, long before
training is done. DINO includes the KoLeo term. Its teacher temperature is rounded to float32,
because lightly's loss rounds it.

Made on {device} at commit {commit} with torch {torch}.
"""


def table(content: Content) -> str:
    """The table in Markdown."""
    lines = [
        "| | value error, lightly | ours | gradient error, lightly | ours "
        "| float64 runs differ by | kNN, lightly | ours |",
        "|---" * 8 + "|",
    ]
    for name, found in content["methods"].items():
        errors = found["curves"]["lightly"]["errors"]
        cells = [max(errors[w][k]) for k in ("value", "gradient") for w in ("lightly", "ours")]
        cells.append(max(_differences(found["curves"], "ours, float64", "lightly, float64")))
        accuracies = [_accuracy(found["accuracy"][who]) for who in ("lightly", "ours")]
        texts = [TITLES[name], *(f"{x:.0e}" for x in cells), *accuracies]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def page(content: Content) -> str:
    """The page in Markdown."""
    curves = next(iter(content["methods"].values()))["curves"]
    about = {
        "picture": PICTURE,
        "steps": max(len(x["curves"]["ours"]["loss"]) for x in content["methods"].values()),
        "double": len(curves["ours, float64"]["loss"]),
        "seeds": len(content["methods"]["simclr"]["accuracy"]["ours"]),
    }
    about |= {key: value for key, value in content.items() if key != "methods"}
    return OPENING.format(**about) + table(content) + CLOSING.format(**about)


def draw(content: Content, path: Path) -> None:
    """Losses above, their relative differences below; a column per method."""
    title = f"Trained with the loss of {content['peer']}, and with ours"
    with picture(path, title, size=(12, 6.6)) as figure:
        axes = figure.subplots(
            2, len(content["methods"]), height_ratios=[1, 1.2], sharex="col", squeeze=False
        )
        for (name, found), (above, below) in zip(content["methods"].items(), axes.T, strict=True):
            curves = found["curves"]
            above.set(title=TITLES[name])
            above.plot(curves["lightly"]["loss"], color="#f0a884", linewidth=4, label="lightly")
            above.plot(curves["ours"]["loss"], color=COLORS[0], linewidth=1, label="ours")
            for label, color, values in (
                ("float32, lightly with one bit changed", "#9aa3af",
                 _differences(curves, "nudged", "lightly")),
                ("float32, ours", COLORS[0], _differences(curves, "ours", "lightly")),
                ("float32, ours on lightly's embeddings", COLORS[2],
                 curves["lightly"]["errors"]["ours"]["value"]),
                ("float64, ours", COLORS[3],
                 _differences(curves, "ours, float64", "lightly, float64")),
            ):  # fmt: skip
                below.plot(_largest(values), color=color, linewidth=1.6, label=label)
            below.set(yscale="log", ylim=(SMALLEST / 3, 3), xlabel="step")
        axes[0, 0].set_ylabel("loss")
        axes[1, 0].set_ylabel("relative difference of losses")
        axes[0, 0].legend()
        lines, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=4)


def write_page(content: Content, folder: Path = DOCUMENTS) -> None:
    """Write the picture and the page into ``folder``."""
    draw(content, folder / PICTURE)
    (folder / PAGE).write_text(page(content))


def _differences(curves: Content, one: str, other: str) -> list[float]:
    pairs = zip(curves[one]["loss"], curves[other]["loss"], strict=True)
    return [abs(x / y - 1) for x, y in pairs]


def _largest(values: Sequence[float]) -> list[float]:
    """The largest of the steps around each."""
    windows = (values[max(0, i - WINDOW) : i + WINDOW + 1] for i in range(len(values)))
    return [max(*window, SMALLEST) for window in windows]


def _accuracy(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"
