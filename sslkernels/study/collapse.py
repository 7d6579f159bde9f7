"""Collapse: what happens without the stop-gradient, the predictor, or the centring?

SimSiam (Chen and He 2020, arXiv:2011.10566, section 4), BYOL (Grill et al. 2020, arXiv:2006.07733,
section 5) and DINO (Caron et al. 2021, arXiv:2104.14294, section 5.3) each name what keeps them
from one answer to everything. Here it is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..losses import negative_cosine_similarity
from ..plots.panels import Line, Panel
from ..train import Recipe
from ..train.methods import (
    BYOL,
    DINO,
    BYOLRecipe,
    DINORecipe,
    Method,
    SimSiam,
    SimSiamRecipe,
)
from .study import Measures, Row, Setting, Study
from .trial import SETTINGS, run_trial


class SimSiamWithoutStopGradient(SimSiam):
    """Predictions and what they predict move towards each other."""

    def loss(self, z0: Tensor, z1: Tensor, p0: Tensor, p1: Tensor) -> Tensor:
        return (negative_cosine_similarity(p0, z1) + negative_cosine_similarity(p1, z0)) / 2


class SimSiamWithoutPredictor(SimSiam):
    """Embeddings are compared as they are, the other side standing still."""

    def __init__(self, backbone: nn.Module, recipe: SimSiamRecipe):
        super().__init__(backbone, recipe)
        self.predictor = nn.Identity()


class BYOLWithoutPredictor(BYOL):
    """The student's embeddings should be the teacher's."""

    def __init__(self, backbone: nn.Module, recipe: BYOLRecipe):
        super().__init__(backbone, recipe)
        self.predictor = nn.Identity()


class BYOLWithoutTeacher(BYOL):
    """The student predicts itself, and what it predicts moves with it."""

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        embeddings = self.student(torch.cat([view0, view1]))
        return *self.predictor(embeddings).chunk(2), *embeddings.chunk(2)

    def loss(self, p0: Tensor, p1: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
        return 4 + 2 * (negative_cosine_similarity(p0, z1) + negative_cosine_similarity(p1, z0))


# Nothing but centring and sharpening should keep prototypes in use: no KoLeo.
_DINO = DINORecipe(**SETTINGS, koleo=0.0, batch_size=128)
_SIMSIAM, _BYOL = SimSiamRecipe(**SETTINGS), BYOLRecipe(**SETTINGS)
VARIATIONS: dict[tuple[str, str], tuple[type[Method], Recipe]] = {
    ("SimSiam", "as published"): (SimSiam, _SIMSIAM),
    ("SimSiam", "no stop-gradient"): (SimSiamWithoutStopGradient, _SIMSIAM),
    ("SimSiam", "no predictor"): (SimSiamWithoutPredictor, _SIMSIAM),
    ("BYOL", "as published"): (BYOL, _BYOL),
    ("BYOL", "no stop-gradient"): (BYOLWithoutTeacher, _BYOL),
    ("BYOL", "no predictor"): (BYOLWithoutPredictor, _BYOL),
    ("DINO", "as published"): (DINO, _DINO),
    ("DINO", "no centring"): (DINO, replace(_DINO, center_momentum=1.0)),
    ("DINO", "no sharpening"): (
        DINO,
        replace(_DINO, teacher_temperature=0.1, first_teacher_temperature=0.1),
    ),
}


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    kind, recipe = VARIATIONS[setting["method"], setting["variation"]]
    recipe = replace(recipe, seed=seed, epochs=epochs)
    found = run_trial(lambda backbone: kind(backbone, recipe), recipe)
    accuracies = found.accuracies()["backbone"]
    curve = [row["embedding_spread"] for row in found.history]
    return {"spread": curve[-1], "knn": accuracies["knn"], "curve": curve}


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.setting["method"], []).append(row)
    return [
        Panel(
            f"{method}: spread of embeddings",
            "epoch",
            [
                Line(
                    f"{row.setting['variation']}\nkNN {row.mean['knn']:.0%}",
                    range(1, len(row.mean["curve"]) + 1),
                    row.mean["curve"],
                    row.std["curve"],
                    number,
                )
                for number, row in enumerate(members)
            ],
            is_share=False,
            from_zero=True,
        )
        for method, members in by_method.items()
    ]


STUDY = Study(
    question="What keeps methods without negatives from one embedding for all images?",
    settings=[{"method": method, "variation": variation} for method, variation in VARIATIONS],
    epochs=10,
    trial=trial,
    columns={"spread": "spread", "knn": "backbone kNN"},
    panels=panels,
    numbers=frozenset({"spread"}),
)
