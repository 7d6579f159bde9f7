"""Jigsaw difficulty: whether a harder task teaches more.

Goyal et al. 2019 (arXiv:1905.01235, section 4.2): the number of permutations sets the difficulty
of the jigsaw, and sufficiently large networks gain from a hard one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plots.panels import Line, Panel
from ..train.methods import Jigsaw, JigsawRecipe
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, run_trial

PERMUTATIONS = (2, 8, 32, 128, 512)


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    count = setting["permutations"]
    recipe = JigsawRecipe(**SETTINGS, epochs=epochs, seed=seed, permutations=count)
    found = run_trial(lambda backbone: Jigsaw(backbone, recipe), recipe)
    accuracies = found.accuracies()["backbone"]
    return {
        "labels": found.history[-1]["label_accuracy"],
        "chance": 1 / count,
        "knn": accuracies["knn"],
        "linear": accuracies["linear"],
    }


def panels(rows: Sequence[Row]) -> list[Panel]:
    counts = [row.setting["permutations"] for row in rows]
    chance = Line("chance", counts, [1 / n for n in counts], [0.0] * len(counts), 7, dashed=True)
    labels = [line(rows, "permutations", "labels", "trained", 0), chance]
    digits = [
        line(rows, "permutations", "linear", "linear probe", 0),
        line(rows, "permutations", "knn", "kNN", 1),
    ]
    below = "number of permutations"
    return [
        Panel("the task: which permutation is it?", below, labels, is_log=True, from_zero=True),
        Panel("what the backbone knows of digits", below, digits, is_log=True),
    ]


STUDY = Study(
    question="Does a harder jigsaw teach more?",
    settings=[{"permutations": count} for count in PERMUTATIONS],
    epochs=10,
    trial=trial,
    columns={"labels": "task", "chance": "chance", "knn": "backbone kNN", "linear": "linear"},
    panels=panels,
)
