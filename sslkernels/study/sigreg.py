"""SIGReg's knobs: weight, slices and knots.

LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544) has nothing but SIGReg against a collapse: no
teacher, no stopped gradient, no predictor. Its weight λ is varied from 0, where views need only
agree, to 1, where they need not agree at all; then the number of random directions in each step,
and the number of points of the integral along each.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import embedding_spread, rankme
from ..plots.panels import Line, Panel
from ..train.methods import LeJEPA, LeJEPARecipe
from .study import Measures, Row, Setting, Study
from .trial import SETTINGS, run_trial

WEIGHTS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SLICES, KNOTS = (16, 64, 256, 1024), (3, 5, 9, 17, 33)
USUAL = {"sigreg": 0.1, "slices": 256, "knots": 17}
TITLES = {
    "sigreg": "weight λ of SIGReg",
    "slices": "slices: directions in each step",
    "knots": "knots: points of the integral",
}


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    recipe = LeJEPARecipe(**SETTINGS, **setting, epochs=epochs, seed=seed)
    found = run_trial(lambda backbone: LeJEPA(backbone, recipe), recipe)
    embeddings = list(found.encode("test")[0].values())[-1]
    rank = rankme(embeddings)
    return {
        "knn": found.accuracies()["backbone"]["knn"],
        "rank": rank,
        "rank_share": rank / embeddings.shape[1],
        "spread": float(embedding_spread(embeddings)),
    }


def panels(rows: Sequence[Row]) -> list[Panel]:
    return [_panel(knob, title, rows) for knob, title in TITLES.items()]


def _panel(knob: str, title: str, rows: Sequence[Row]) -> Panel:
    """Of the rows in which nothing else is unusual."""
    others = {key: value for key, value in USUAL.items() if key != knob}
    members = [row for row in rows if others.items() <= row.setting.items()]
    members.sort(key=lambda row: row.setting[knob])
    lines = [
        _line(members, "knn", "kNN of the backbone", 0),
        _line(members, "rank_share", "rank of embeddings", 1),
    ]
    ticks = [f"{row.setting[knob]:g}" for row in members]
    return Panel(title, f"usual: {USUAL[knob]:g}", lines, ticks=ticks, from_zero=True)


def _line(rows: Sequence[Row], measure: str, name: str, number: int) -> Line:
    means, stds = ([getattr(row, part)[measure] for row in rows] for part in ("mean", "std"))
    return Line(name, range(len(rows)), means, stds, number)


STUDY = Study(
    question="How much SIGReg does LeJEPA need, and how finely must it look?",
    settings=[
        *({**USUAL, "sigreg": weight} for weight in WEIGHTS),
        *({**USUAL, "slices": count} for count in SLICES if count != USUAL["slices"]),
        *({**USUAL, "knots": count} for count in KNOTS if count != USUAL["knots"]),
    ],
    epochs=6,
    trial=trial,
    columns={"knn": "backbone kNN", "rank": "RankMe", "rank_share": "of 64", "spread": "spread"},
    panels=panels,
    numbers=frozenset({"rank", "spread"}),
)
