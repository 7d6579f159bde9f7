"""Few combinations of parameters instead of all (a pairwise covering array)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any


def covering(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """A part of the product in which each pair of values of two axes occurs at least once."""
    axes = [list(axis) for axis in axes]
    pairs = {row: _pairs(row) for row in product(*(range(len(axis)) for axis in axes))}
    missing = {pair for of_row in pairs.values() for pair in of_row}
    chosen = []
    while missing:
        best = max(pairs, key=lambda row: len(missing.intersection(pairs[row])))
        missing.difference_update(pairs[best])
        chosen.append(tuple(axis[i] for axis, i in zip(axes, best, strict=True)))
    return chosen


def starting_with(rows: Sequence[tuple[Any, ...]], *values: Any) -> list[tuple[Any, ...]]:
    """The remaining values of the rows that start with these."""
    return [row[len(values) :] for row in rows if row[: len(values)] == values]


def _pairs(row: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return list(combinations(enumerate(row), 2))
