"""SIGReg's settings: weight, slices and knots.

In LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544) SIGReg alone prevents collapse: there is no
teacher, no stop-gradient, no predictor. Its weight λ is varied from 0 (invariance only) to 1 (no
invariance term); then the number of random directions in each step, and the number of knots of the
integral. There are two whole views and no local ones.

The deviation of the embeddings over images, as a root mean square over features, is 1 for the
Gaussian that SIGReg aims for and 0 for a single point.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import knn_accuracy, rankme
from ..plots.panels import Line, Panel
from ..train.methods import LeJEPA, LeJEPARecipe
from .study import Measures, Row, Setting, Study
from .trial import SETTINGS, run_trial

WEIGHTS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SLICES, KNOTS = (16, 64, 256, 1024), (3, 5, 9, 17, 33)
USUAL = {"sigreg": 0.1, "slices": 256, "knots": 17}
NAMES = {"sigreg": "λ =", "slices": "slices =", "knots": "knots ="}
TITLES = {
    "sigreg": "weight λ of SIGReg",
    "slices": "slices: directions in each step",
    "knots": "knots: points of the integral",
}
LINES = {
    "knn": "kNN of backbone",
    "deviation": "deviation of embeddings",
    "rank_share": "RankMe / features",
}


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    recipe = LeJEPARecipe(**SETTINGS, **setting, local_views=0, epochs=epochs, seed=seed)
    found = run_trial(lambda backbone: LeJEPA(backbone, recipe), recipe)
    (train, train_labels), (test, test_labels) = map(found.encode, ("train", "test"))
    embeddings = list(test.values())[-1]
    rank = rankme(test["backbone"])
    return {
        "knn": knn_accuracy(train["backbone"], train_labels, test["backbone"], test_labels),
        "rank": rank,
        "rank_share": rank / test["backbone"].shape[1],
        "output_rank": rankme(embeddings),
        "deviation": float(embeddings.std(0).square().mean().sqrt()),
    }


def panels(rows: Sequence[Row]) -> list[Panel]:
    return [_panel(knob, title, rows) for knob, title in TITLES.items()]


def _panel(knob: str, title: str, rows: Sequence[Row]) -> Panel:
    """A panel of one setting, from the rows in which all others have their usual values."""
    others = {key: value for key, value in USUAL.items() if key != knob}
    members = [row for row in rows if others.items() <= row.setting.items()]
    members.sort(key=lambda row: row.setting[knob])
    lines = [
        Line(
            name,
            range(len(members)),
            [row.mean[measure] for row in members],
            [row.std[measure] for row in members],
            number,
        )
        for number, (measure, name) in enumerate(LINES.items())
    ]
    ticks = [f"{row.setting[knob]:g}" for row in members]
    below = ", ".join(f"{NAMES[key]} {value:g}" for key, value in others.items())
    return Panel(title, f"at {below}", lines, ticks=ticks, from_zero=True)


STUDY = Study(
    question="How much SIGReg does LeJEPA need, and how finely must it look?",
    settings=[
        *({**USUAL, "sigreg": weight} for weight in WEIGHTS),
        *({**USUAL, "slices": count} for count in SLICES if count != USUAL["slices"]),
        *({**USUAL, "knots": count} for count in KNOTS if count != USUAL["knots"]),
    ],
    epochs=4,
    trial=trial,
    columns={
        "knn": "backbone kNN",
        "rank": "backbone RankMe",
        "output_rank": "output RankMe",
        "deviation": "deviation",
    },
    panels=panels,
    numbers=frozenset({"rank", "output_rank", "deviation"}),
)
