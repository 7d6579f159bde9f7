"""Collapse: the effect of removing the stop-gradient, the predictor, or the centring.

SimSiam (Chen and He 2020, arXiv:2011.10566, section 4), BYOL (Grill et al. 2020, arXiv:2006.07733,
section 5) and DINO (Caron et al. 2021, arXiv:2104.14294, section 5.3) each name what prevents a
constant output. Here it is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import negative_cosine_similarity
from ..plots.panels import Line, Panel
from ..train import Recipe
from ..train.backbones import feature_size
from ..train.methods import (
    BYOL,
    DINO,
    BYOLRecipe,
    DINORecipe,
    Method,
    SimSiam,
    SimSiamRecipe,
)
from ..train.methods.perceptron import perceptron
from ..train.methods.self_distillation import TEACHER_VIEWS
from .study import Measures, Row, Setting, Study
from .trial import SETTINGS, run_trial

# Indicators of collapse, and their value in a collapse.
INDICATORS = {
    "embedding_spread": ("spread of embeddings", 0.0),
    "told_apart": ("prototypes that tell images apart", 1.0),
}


class PlainSimSiam(SimSiam):
    """SimSiam without batch normalisation at the end of its projector.

    The published one has it. That alone gives each feature mean 0 and variance 1, so embeddings
    cannot all be equal, whatever else is removed.
    """

    def __init__(self, backbone: nn.Module, recipe: SimSiamRecipe):
        super().__init__(backbone, recipe)
        self.projector = perceptron([feature_size(backbone), *[recipe.embedding_size] * 3])


class SimSiamWithoutStopGradient(PlainSimSiam):
    """Predictions and their targets both have gradients."""

    def loss(self, z0: Tensor, z1: Tensor, p0: Tensor, p1: Tensor) -> Tensor:
        return (negative_cosine_similarity(p0, z1) + negative_cosine_similarity(p1, z0)) / 2


class SimSiamWithoutPredictor(PlainSimSiam):
    """Embeddings are compared directly, with stop-gradient."""

    def __init__(self, backbone: nn.Module, recipe: SimSiamRecipe):
        super().__init__(backbone, recipe)
        self.predictor = nn.Identity()


class BYOLWithoutPredictor(BYOL):
    """The student's embeddings themselves approach the teacher's."""

    def __init__(self, backbone: nn.Module, recipe: BYOLRecipe):
        super().__init__(backbone, recipe)
        self.predictor = nn.Identity()


class BYOLWithoutTeacher(BYOL):
    """The student predicts its own embeddings, without stop-gradient."""

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        embeddings = self.student(torch.cat([view0, view1]))
        return *self.predictor(embeddings).chunk(2), *embeddings.chunk(2)

    def loss(self, p0: Tensor, p1: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
        return 4 + 2 * (negative_cosine_similarity(p0, z1) + negative_cosine_similarity(p1, z0))


class WatchedDINO(DINO):
    """DINO that also logs how well its prototypes distinguish images."""

    @torch.no_grad()
    def monitor(self, *embeddings: Tensor) -> dict[str, Tensor]:
        teacher = torch.cat(embeddings[-TEACHER_VIEWS:])
        prototypes = F.normalize(self.teacher.prototypes, dim=1)
        logits = teacher @ prototypes.T - self.class_loss.center[0]
        told = told_apart((logits / self.teacher_temperature).softmax(1))
        return {**super().monitor(*embeddings), "told_apart": told}


def told_apart(probabilities: Tensor) -> Tensor:
    """The exponential of the mutual information of images and prototypes, of (n, K) probabilities.

    It is the number of prototypes that would give as much information with certain assignments. 1:
    all images have the same assignment, either to a single prototype (which centring prevents) or
    uniform (which sharpening prevents).
    """
    mean = probabilities.mean(0)
    return (torch.special.entr(mean).sum() - torch.special.entr(probabilities).sum(1).mean()).exp()


# Predictors have the learning rate of everything else, as published.
_SHARED = {**SETTINGS, "batch_size": 64, "learning_rate": 1e-3, "predictor_rate": 1.0}
_SIMSIAM = SimSiamRecipe(**_SHARED)
_BYOL = BYOLRecipe(**_SHARED)
# Only centring and sharpening keep prototypes in use: no KoLeo.
_DINO = DINORecipe(**SETTINGS, batch_size=64, prototypes=256, momentum=0.9, koleo=0.0)
_SOFT = replace(_DINO, teacher_temperature=0.1, first_teacher_temperature=0.1)
VARIATIONS: dict[tuple[str, str], tuple[type[Method], Recipe]] = {
    ("SimSiam", "with everything"): (PlainSimSiam, _SIMSIAM),
    ("SimSiam", "no stop-gradient"): (SimSiamWithoutStopGradient, _SIMSIAM),
    ("SimSiam", "no predictor"): (SimSiamWithoutPredictor, _SIMSIAM),
    ("BYOL", "with everything"): (BYOL, _BYOL),
    ("BYOL", "no stop-gradient"): (BYOLWithoutTeacher, _BYOL),
    ("BYOL", "no predictor"): (BYOLWithoutPredictor, _BYOL),
    ("DINO", "with everything"): (WatchedDINO, _DINO),
    ("DINO", "no centring"): (WatchedDINO, replace(_DINO, center_momentum=1.0)),
    ("DINO", "no sharpening"): (WatchedDINO, _SOFT),
}


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    kind, recipe = VARIATIONS[setting["method"], setting["variation"]]
    recipe = replace(recipe, seed=seed, epochs=epochs)
    found = run_trial(lambda backbone: kind(backbone, recipe), recipe)
    curves = {
        key: [row[key] for row in found.history] for key in INDICATORS if key in found.history[0]
    }
    last = {key: curve[-1] for key, curve in curves.items()}
    accuracy = found.accuracies()["backbone"]["knn"]
    return {**last, "knn": accuracy, **{f"{key}_curve": curve for key, curve in curves.items()}}


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.setting["method"], []).append(row)
    return [_panel(method, members) for method, members in by_method.items()]


def _panel(method: str, rows: Sequence[Row]) -> Panel:
    *_, indicator = (key for key in INDICATORS if key in rows[0].mean)
    lines = [
        Line(
            row.setting["variation"],
            range(1, len(row.mean[f"{indicator}_curve"]) + 1),
            row.mean[f"{indicator}_curve"],
            row.std[f"{indicator}_curve"],
            number,
        )
        for number, row in enumerate(rows)
    ]
    title, floor = INDICATORS[indicator]
    levels = {"collapsed": floor} if floor else {}
    return Panel(
        f"{method}: {title}", "epoch", lines, is_share=False, from_zero=True, levels=levels
    )


STUDY = Study(
    question="What keeps methods without negatives from one embedding for all images?",
    settings=[{"method": method, "variation": variation} for method, variation in VARIATIONS],
    epochs=6,
    trial=trial,
    columns={"embedding_spread": "spread", "told_apart": "prototypes told apart", "knn": "kNN"},
    panels=panels,
    numbers=frozenset(INDICATORS),
)
