"""The definition of a study: settings, measures, and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..plots.panels import Line, Panel

Setting = Mapping[str, Any]
Measures = dict[str, Any]  # numbers, or lists of numbers such as a curve


@dataclass(frozen=True)
class Study:
    """A question that small runs answer.

    Attributes:
        question: in one sentence.
        settings: the settings to vary: one mapping from names to plain values per table row.
        epochs: default number of epochs of each run.
        trial: trains with a setting, a seed and a number of epochs, and returns measures.
        columns: of the table: titles by measure. Fractions are printed as percentages.
        panels: draws the rows.
        numbers: measures that are not fractions, printed as they are.
    """

    question: str
    settings: Sequence[Setting]
    epochs: int
    trial: Callable[[Setting, int, int], Measures]
    columns: Mapping[str, str]
    panels: Callable[[Sequence[Row]], list[Panel]]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """The results of several seeds with one setting: mean and standard deviation of each measure.

    The standard deviation divides by the number of seeds minus one; it is 0 for one seed.
    """

    setting: Setting
    seeds: int
    mean: Measures
    std: Measures


def summarize(setting: Setting, trials: Sequence[Measures]) -> Row:
    """The row of the trials of one setting, which have the same measures."""
    mean, std = {}, {}
    for key in trials[0]:
        values = torch.tensor([trial[key] for trial in trials], dtype=torch.float64)
        mean[key] = values.mean(0).tolist()
        std[key] = (values.std(0) if len(trials) > 1 else torch.zeros_like(values[0])).tolist()
    return Row(setting, len(trials), mean, std)


def line(
    rows: Sequence[Row], x: str, measure: str, name: str, number: int = 0, dashed: bool = False
) -> Line:
    """A line of a measure over the setting ``x``."""
    return Line(
        name,
        [row.setting[x] for row in rows],
        [row.mean[measure] for row in rows],
        [row.std[measure] for row in rows],
        number,
        dashed,
    )
