"""Augmentation strength: which invariances features learn, and how strongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch

from ..data import DigitSplit, ViewBatch
from ..data.moved_digits import CANVAS_SIZE, apply_moves, draw_moves
from ..data.readers import MemoryReader
from ..data.readers.epoch_order import seeded_generator
from ..data.single_augmentations import MOVES
from ..metrics import relative_distance
from ..plots.panels import Line, Panel
from ..train.datasets import Digits
from ..train.methods import SimCLR, SimCLRRecipe
from .study import Measures, Row, Setting, Study, line
from .trial import SETTINGS, Trial, run_trial

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
IMAGES = 1000


class WeaklyMovedDigits:
    """Pairs of views like those of ``MovedDigitViews``, moved by a fraction of the range."""

    def __init__(self, digits: DigitSplit, batch_size: int, seed: int, strength: float):
        self.reader = MemoryReader(*digits, batch_size, seed=seed)
        self.strength = strength

    def __len__(self) -> int:
        return len(self.reader)

    def __iter__(self) -> Iterator[ViewBatch]:
        for images, labels, indices in self.reader:
            step = self.reader.step - 1
            generator = seeded_generator(self.reader.order.seed, step, device=labels.device)
            moves = [self.strength * draw_moves(len(labels), generator) for _ in range(2)]
            views, maps = zip(*(apply_moves(images, m, CANVAS_SIZE) for m in moves), strict=True)
            yield ViewBatch(list(views), torch.stack(maps), labels, indices)

    def state_dict(self) -> dict[str, Any]:
        return self.reader.state_dict()


def trial(setting: Setting, seed: int, epochs: int) -> Measures:
    recipe = SimCLRRecipe(**SETTINGS, epochs=epochs, seed=seed)
    found = run_trial(
        lambda backbone: SimCLR(backbone, recipe),
        recipe,
        lambda data: WeaklyMovedDigits(
            cast(Digits, data).train, recipe.batch_size, seed, setting["strength"]
        ),
    )
    accuracies = found.accuracies()["backbone"]
    measures = {"knn": accuracies["knn"], "linear": accuracies["linear"]}
    return measures | _distances(found)


def _distances(found: Trial) -> Measures:
    """Relative distances of test digits moved in one way, for the backbone and the output."""
    parts: dict[str, list[dict[str, torch.Tensor]]] = {}
    for batch in found.data.augmented_batches(IMAGES):
        for name, images in batch.items():
            labels = torch.zeros(len(images), dtype=torch.int64)
            parts.setdefault(name, []).append(found.encode_batches([(images, labels)])[0])
    depths = list(parts["plain"][0])
    measures = {}
    for place, depth in (("backbone", depths[0]), ("output", depths[-1])):
        features = {
            name: torch.cat([part[depth] for part in encoded]) for name, encoded in parts.items()
        }
        for name in MOVES:
            measures[f"{place}_{name}"] = relative_distance(features["plain"], features[name])
    return measures


def panels(rows: Sequence[Row]) -> list[Panel]:
    accuracy = [
        line(rows, "strength", "linear", "linear probe", 0),
        line(rows, "strength", "knn", "kNN", 1),
    ]
    below = "strength of the moves in training"
    distances: dict[str, list[Line]] = {
        place: [line(rows, "strength", f"{place}_{name}", name, i) for i, name in enumerate(MOVES)]
        for place in ("backbone", "output")
    }
    return [
        Panel("accuracy of the backbone on moved digits", below, accuracy),
        *(
            Panel(f"{title}: change by one move", below, lines, is_share=False, from_zero=True)
            for title, lines in zip(("backbone", "embedding"), distances.values(), strict=True)
        ),
    ]


STUDY = Study(
    question="How strong should the augmentation be, and what becomes invariant?",
    settings=[{"strength": strength} for strength in STRENGTHS],
    epochs=10,
    trial=trial,
    columns={
        "knn": "kNN",
        "linear": "linear",
        **{f"backbone_{name}": f"backbone: {name}" for name in MOVES},
        **{f"output_{name}": f"output: {name}" for name in MOVES},
    },
    panels=panels,
    numbers=frozenset(f"{place}_{name}" for place in ("backbone", "output") for name in MOVES),
)
