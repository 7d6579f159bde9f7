"""Output dimension: the number of features that the loss needs.

VICReg (Bardes et al. 2022, arXiv:2105.04906, appendix) improves with more features, which it
decorrelates; SimCLR (Chen et al. 2020, arXiv:2002.05709, figure 8) hardly depends on their number.

VICReg's covariance term is a sum over pairs of features, divided by the number of features, so it
grows with them. Its weight is reduced accordingly, to keep the balance of the terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..losses import NTXentLoss, VICRegLoss
from ..plots.panels import Panel
from ..train.methods import SimCLRRecipe, VICRegRecipe
from ..train.methods.two_views import TwoViews
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, run_trial

DIMENSIONS = (8, 32, 128, 512, 2048)
HIDDEN = 256


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    dimension = setting["dimension"]
    recipe: SimCLRRecipe | VICRegRecipe
    loss: nn.Module
    if setting["method"] == "SimCLR":
        recipe = SimCLRRecipe(**SETTINGS, epochs=epochs, seed=seed)
        loss = NTXentLoss(recipe.temperature)
    else:
        recipe = VICRegRecipe(**SETTINGS, epochs=epochs, seed=seed)
        covariance = recipe.covariance * recipe.expander_size / dimension
        loss = VICRegLoss(recipe.invariance, recipe.variance, covariance)
    sizes = [HIDDEN, dimension]
    found = run_trial(lambda backbone: TwoViews(backbone, sizes, loss), recipe).accuracies()
    backbone, output = found["backbone"], list(found.values())[-1]
    return {"knn": backbone["knn"], "linear": backbone["linear"], "output": output["linear"]}


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_method = {
        name: [r for r in rows if r.setting["method"] == name] for name in ("VICReg", "SimCLR")
    }
    return [
        Panel(
            title,
            "dimension of the embeddings",
            [
                line(members, "dimension", measure, name, number)
                for number, (name, members) in enumerate(by_method.items())
            ],
            is_log=True,
        )
        for measure, title in (("knn", "kNN of the backbone"), ("linear", "linear probe of it"))
    ]


STUDY = Study(
    question="How many features does the loss need to see?",
    settings=[
        {"method": method, "dimension": dimension}
        for method in ("VICReg", "SimCLR")
        for dimension in DIMENSIONS
    ],
    epochs=10,
    trial=trial,
    columns={"knn": "backbone kNN", "linear": "backbone linear", "output": "output linear"},
    panels=panels,
)
