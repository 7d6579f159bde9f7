"""The evaluation as text: one line per depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "depth": ("depth", str),
    "features": ("features", str),
    "knn_accuracy": ("kNN", "{:.1%}".format),
    "linear_accuracy": ("linear", "{:.1%}".format),
    "rankme": ("RankMe", "{:.1f}".format),
    "alpha_req": ("α-ReQ", "{:.2f}".format),
    "lidar": ("LiDAR", "{:.1f}".format),
    "alignment": ("alignment", "{:.3f}".format),
    "uniformity": ("uniformity", "{:.2f}".format),
    "embedding_spread": ("spread", "{:.2f}".format),
}
UNKNOWN = "–"


def tables(numbers: Mapping[str, Any], baselines: Mapping[str, float]) -> str:
    """The numbers of ``evaluate`` by depth, followed by the distances under single augmentations.

    Args:
        numbers: of ``Evaluation``.
        baselines: kNN accuracies for comparison, by name.
    """
    rows = [[title for title, _ in COLUMNS.values()]]
    for name, accuracy in baselines.items():
        row = {"depth": name, "knn_accuracy": accuracy}
        rows.append([_cell(row.get(key), form, "") for key, (_, form) in COLUMNS.items()])
    for depth in numbers["depths"]:
        rows.append([_cell(depth[key], form) for key, (_, form) in COLUMNS.items()])
    augmentations = list(numbers["depths"][0]["relative_distance"])
    moved = [["depth", *augmentations]]
    for depth in numbers["depths"]:
        distances = depth["relative_distance"].values()
        moved.append([depth["depth"], *(_cell(x, "{:.3f}".format) for x in distances)])
    return (
        f"{align(rows)}\n\nChange of features by one augmentation, relative to another image "
        f"(0: invariant)\n{align(moved)}"
    )


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width in all rows; the first is left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _cell(value: Any, form: Callable[[Any], str], unknown: str = UNKNOWN) -> str:
    return unknown if value is None else form(value)
