"""Projector depth and width: how much the backbone gains from not being the last layer.

Guillotine regularisation (Bordes et al. 2022, arXiv:2206.13378): the loss demands invariance, which
a projector provides before it is cut off. The gain depends on the task. The class of a digit is
invariant to the moves of the augmentation; its position is not. Both are probed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from ..data.moved_digits import CANVAS_SIZE, apply_moves, draw_moves
from ..losses import NTXentLoss
from ..metrics import linear_probe
from ..plots.panels import Line, Panel
from ..train.datasets import Digits
from ..train.methods import SimCLRRecipe
from ..train.methods.two_views import TwoViews
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, Trial, run_trial

LAYERS, WIDTHS = (0, 1, 2, 3), (16, 64, 256, 1024)
USUAL_LAYERS, USUAL_WIDTH = 2, 256
OUTPUT = 64


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    recipe = SimCLRRecipe(**SETTINGS, epochs=epochs, seed=seed)
    sizes = [setting["width"]] * (setting["layers"] - 1) + [OUTPUT] * (setting["layers"] > 0)
    loss = NTXentLoss(recipe.temperature)
    found = run_trial(lambda backbone: TwoViews(backbone, sizes, loss), recipe)
    depths = list(found.accuracies().values())
    places = _accuracies_of_place(found)
    return {
        "backbone_knn": depths[0]["knn"],
        "output_knn": depths[-1]["knn"],
        "backbone": depths[0]["linear"],
        "output": depths[-1]["linear"],
        "backbone_place": places[0],
        "output_place": places[-1],
        "by_depth": [depth["linear"] for depth in depths],
        "place_by_depth": places,
    }


def _accuracies_of_place(found: Trial) -> list[float]:
    """Accuracy of a linear probe of the position (left, middle or right), by depth."""
    data = cast(Digits, found.data)
    features, labels = [], []
    for number, digits in enumerate((data.train, data.test)):
        generator = torch.Generator(digits.images.device).manual_seed(number)
        moves = draw_moves(len(digits.images), generator)
        third = ((moves[:, 2] + 1) * 1.5).long().clamp_max(2)
        images, _ = apply_moves(digits.images, moves, CANVAS_SIZE)
        encoded, _ = found.encode_batches(zip(images.split(250), third.split(250), strict=True))
        features.append(list(encoded.values()))
        labels.append(third)
    return [
        linear_probe(train, labels[0], test, labels[1])
        for train, test in zip(*features, strict=True)
    ]


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_layers = [row for row in rows if row.setting["width"] == USUAL_WIDTH]
    by_width = [row for row in rows if row.setting["layers"] == USUAL_LAYERS]
    by_width.sort(key=lambda row: row.setting["width"])
    ticks = ["backbone", *(f"layer {n}" for n in range(1, max(LAYERS) + 1))]
    below = f"projectors of width {USUAL_WIDTH}"
    widths = [
        line(by_width, "width", "backbone", "backbone", 0),
        line(by_width, "width", "output", "projector's output", 1),
    ]
    return [
        Panel("which digit is it?", below, _by_depth(by_layers, "by_depth"), ticks=ticks),
        Panel("where is it?", below, _by_depth(by_layers, "place_by_depth"), ticks=ticks),
        Panel("which digit is it?", "width of the hidden layer", widths, is_log=True),
    ]


def _by_depth(rows: Sequence[Row], measure: str) -> list[Line]:
    return [
        Line(
            _layers(row.setting["layers"]),
            range(len(row.mean[measure])),
            row.mean[measure],
            row.std[measure],
            number,
        )
        for number, row in enumerate(rows)
    ]


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}" if count else "no projector"


STUDY = Study(
    question="How deep and how wide should the projector be, and where is it best cut off?",
    settings=[
        *({"layers": layers, "width": USUAL_WIDTH} for layers in LAYERS),
        *({"layers": USUAL_LAYERS, "width": w} for w in WIDTHS if w != USUAL_WIDTH),
    ],
    epochs=10,
    trial=trial,
    columns={
        "backbone_knn": "backbone kNN",
        "output_knn": "output kNN",
        "backbone": "backbone linear",
        "output": "output linear",
        "backbone_place": "place, backbone",
        "output_place": "place, output",
    },
    panels=panels,
)
