"""Projector depth and width: how much does the backbone gain by not being the last layer?

Guillotine regularisation (Bordes et al. 2022, arXiv:2206.13378): the loss asks for invariance that
a classifier does not want; a projector takes it on, and is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..losses import NTXentLoss
from ..plots.panels import Line, Panel
from ..train.methods import SimCLRRecipe
from ..train.methods.two_views import TwoViews
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, run_trial

LAYERS, WIDTHS = (0, 1, 2, 3), (16, 64, 256, 1024)
USUAL_LAYERS, USUAL_WIDTH = 2, 256
OUTPUT = 64


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    recipe = SimCLRRecipe(**SETTINGS, epochs=epochs, seed=seed)
    sizes = [setting["width"]] * (setting["layers"] - 1) + [OUTPUT] * (setting["layers"] > 0)
    loss = NTXentLoss(recipe.temperature)
    depths = list(run_trial(lambda b: TwoViews(b, sizes, loss), recipe).accuracies().values())
    backbone, output = depths[0], depths[-1]
    return {
        "backbone_knn": backbone["knn"],
        "output_knn": output["knn"],
        "backbone": backbone["linear"],
        "output": output["linear"],
        "gain": backbone["linear"] - output["linear"],  # of one run: its seed cancels
        "by_depth": [depth["linear"] for depth in depths],
    }


def panels(rows: Sequence[Row]) -> list[Panel]:
    by_layers = [row for row in rows if row.setting["width"] == USUAL_WIDTH]
    by_width = [row for row in rows if row.setting["layers"] == USUAL_LAYERS]
    by_width.sort(key=lambda row: row.setting["width"])
    curves = [
        Line(
            _layers(row.setting["layers"]),
            range(len(row.mean["by_depth"])),
            row.mean["by_depth"],
            row.std["by_depth"],
            number,
        )
        for number, row in enumerate(by_layers)
    ]
    ticks = ["backbone", *(f"layer {n}" for n in range(1, max(LAYERS) + 1))]
    widths = [
        line(by_width, "width", "backbone", "backbone", 0),
        line(by_width, "width", "output", "projector's output", 1),
    ]
    return [
        Panel("linear probe, by depth", f"projectors of width {USUAL_WIDTH}", curves, ticks=ticks),
        Panel("linear probe, by width", "width of the hidden layer", widths, is_log=True),
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
        "gain": "cut off gains",
    },
    panels=panels,
)
