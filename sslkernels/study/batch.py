"""Batch size with and without a queue: where do negatives come from?

SimCLR (Chen et al. 2020, arXiv:2002.05709) takes them from the batch, MoCo (He et al. 2019,
arXiv:1911.05722) from a queue of what earlier batches were.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plots.panels import Panel
from ..train.methods import MoCoV2, MoCoV2Recipe, SimCLR, SimCLRRecipe
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, run_trial

BATCHES = (16, 64, 256, 1024)
USUAL = 256
METHODS = {"SimCLR": (SimCLR, SimCLRRecipe), "MoCo v2": (MoCoV2, MoCoV2Recipe)}


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    kind, recipe_of = METHODS[setting["method"]]
    size = setting["batch_size"]
    rate = recipe_of.learning_rate * (size / USUAL) ** 0.5
    recipe = recipe_of(**SETTINGS, epochs=epochs, seed=seed, batch_size=size, learning_rate=rate)
    found = run_trial(lambda backbone: kind(backbone, recipe), recipe).accuracies()["backbone"]
    return {"knn": found["knn"], "linear": found["linear"]}


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_method = {name: [r for r in rows if r.setting["method"] == name] for name in METHODS}
    return [
        Panel(
            f"{title}, after as many epochs",
            "batch size",
            [
                line(members, "batch_size", measure, name, number)
                for number, (name, members) in enumerate(by_method.items())
            ],
            is_log=True,
        )
        for measure, title in (("knn", "kNN"), ("linear", "linear probe"))
    ]


STUDY = Study(
    question="Does a queue of negatives make up for a small batch?",
    settings=[{"method": m, "batch_size": size} for m in METHODS for size in BATCHES],
    epochs=10,
    trial=trial,
    columns={"knn": "kNN", "linear": "linear"},
    panels=panels,
)
