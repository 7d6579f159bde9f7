"""Batch size with and without a queue: the source of negatives, and other effects of the batch.

SimCLR (Chen et al. 2020, arXiv:2002.05709) takes negatives from the batch, MoCo (He et al. 2019,
arXiv:1911.05722) from a queue of earlier batches. After the same number of epochs, a smaller batch
has had fewer negatives and more steps. To separate the two effects, SimCLR is also trained with one
batch size and the loss of parts of the batch, as on several devices that do not gather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..plots.panels import Panel
from ..train.methods import Method, MoCoV2, MoCoV2Recipe, SimCLR, SimCLRRecipe
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, run_trial

BATCHES, USUAL, PARTS = (32, 128, 512), 128, (2, 8, 32)
RECIPES: dict[str, type[SimCLRRecipe] | type[MoCoV2Recipe]] = {
    "SimCLR": SimCLRRecipe,
    "MoCo v2": MoCoV2Recipe,
}
RATE_AT = 256  # the batch size of the recipes' learning rates


class InParts(nn.Module):
    """The mean of a loss of two views over parts of the batch with ``part`` images each."""

    def __init__(self, loss: Callable[..., Any], part: int):
        super().__init__()
        self.loss, self.part = loss, part

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        parts = zip(out0.split(self.part), out1.split(self.part), strict=True)
        losses = [self.loss(*part) for part in parts]
        return sum(losses) / len(losses)


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    size = setting["batch_size"]
    kind = RECIPES[setting["method"]]
    rate = kind.learning_rate * (size / RATE_AT) ** 0.5
    recipe = kind(**SETTINGS, epochs=epochs, seed=seed, batch_size=size, learning_rate=rate)

    def make(backbone: nn.Module) -> Method:
        if isinstance(recipe, MoCoV2Recipe):
            return MoCoV2(backbone, recipe)
        method = SimCLR(backbone, recipe)
        method.loss = InParts(method.loss, setting["in_the_loss"])
        return method

    found = run_trial(make, recipe).accuracies()["backbone"]
    return {"knn": found["knn"], "linear": found["linear"]}


def panels(rows: Sequence[Row]) -> list[Panel]:
    whole = [row for row in rows if row.setting["batch_size"] == row.setting["in_the_loss"]]
    by_method = {name: [r for r in whole if r.setting["method"] == name] for name in RECIPES}
    usual = [row for row in rows if row.setting["batch_size"] == USUAL]
    parts = [row for row in usual if row.setting["method"] == "SimCLR"]
    parts.sort(key=lambda row: row.setting["in_the_loss"])
    (queue,) = (row for row in usual if row.setting["method"] == "MoCo v2")
    sizes = [
        line(members, "batch_size", "linear", name, number)
        for number, (name, members) in enumerate(by_method.items())
    ]
    return [
        Panel("linear probe, after as many epochs", "batch size", sizes, is_log=True),
        Panel(
            f"linear probe, parts of a batch of {USUAL} in the loss",
            "images per loss",
            [line(parts, "in_the_loss", "linear", "SimCLR")],
            is_log=True,
            levels={"MoCo v2, negatives from its queue": queue.mean["linear"]},
        ),
    ]


STUDY = Study(
    question="Does a queue of negatives make up for a small batch?",
    settings=[
        *({"method": m, "batch_size": b, "in_the_loss": b} for m in RECIPES for b in BATCHES),
        *({"method": "SimCLR", "batch_size": USUAL, "in_the_loss": part} for part in PARTS),
    ],
    epochs=10,
    trial=trial,
    columns={"knn": "kNN", "linear": "linear"},
    panels=panels,
)
