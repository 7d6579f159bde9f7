"""The complete evaluation of a run: numbers by depth, and the features they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._checks import check_integers, shown
from ..metrics import (
    alignment,
    alpha_req,
    embedding_spread,
    knn_accuracy,
    lidar,
    linear_probe,
    rankme,
    relative_distance,
    uniformity,
)
from ..train import Run
from ..train.run import NEIGHBORS
from .depth import encode_depths

CHUNK_SIZE = 250  # images per forward pass
Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass
class Evaluation:
    """The result of :func:`sslkernels.eval.evaluate`.

    Attributes:
        numbers: of plain types, for JSON; None where undefined.
        train: features (n, d) of training images, by depth.
        test: features (m, d) of test images, by depth.
        test_labels: (m,), labels of the test images.
    """

    numbers: dict[str, Any]
    train: dict[str, Tensor]
    test: dict[str, Tensor]
    test_labels: Tensor


def evaluate(
    run: Run, *, images: int = 1000, views: int = 10, log: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Measure a trained run at every depth: after the backbone and each layer of the projector.

    - ``knn_accuracy``, ``linear_accuracy``: on the test split; None without classes.
    - ``rankme``, ``alpha_req``: on the training split. ``alpha_req`` is None if the features have
      too few dimensions.
    - ``lidar``: on ``images`` test images with ``views`` augmented views each.
    - ``alignment``: on two of these views; ``uniformity`` and ``embedding_spread``: on the test
      split, without augmentation.
    - ``relative_distance``: on ``images`` test images, for each single augmentation.

    All are defined in :mod:`sslkernels.metrics`.

    Args:
        run: from :func:`sslkernels.train.load_run`.
        images: maximum number of test images to augment; at least 2.
        views: augmented views of each image; at least 2.
        log: called with a line of text before each part of the evaluation.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``images`` or ``views`` is below 2.
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be what load_run returns, got {shown(run)}")
    check_integers(2, images=images, views=views)
    if not callable(log):
        raise TypeError(f"log must be a function, got {shown(log)}")
    device = next(run.method.parameters()).device

    def encoded(batches: Batches) -> tuple[dict[str, Tensor], Tensor]:
        on_device = ((x.to(device), y.to(device)) for x, y in batches)
        return encode_depths(run.method, on_device, run.recipe.precision)

    log("features of the training split")
    train, train_labels = encoded(run.data.evaluation_batches("train"))
    log("features of the test split")
    test, test_labels = encoded(run.data.evaluation_batches("test"))
    log(f"features of {views} views of each of {images} test images at most")
    repeated, _ = encoded(_flat(run.data.repeated_views(images, views)))
    log("features of test images by single augmentations")
    single = _encode_single(encoded, run.data.augmented_batches(images))

    depths = []
    for name, features in train.items():
        log(f"metrics: {name}, {features.shape[1]} features")
        several = repeated[name].unflatten(0, (-1, views))
        row = {"depth": name, "features": features.shape[1]}
        row |= {"knn_accuracy": None, "linear_accuracy": None}
        if run.data.classes:
            splits = features, train_labels, test[name], test_labels
            row["knn_accuracy"] = knn_accuracy(*splits, k=min(NEIGHBORS, len(features)))
            row["linear_accuracy"] = linear_probe(*splits)
        row |= {
            "rankme": rankme(features),
            "alpha_req": _alpha_req(features),
            "lidar": lidar(several),
            "alignment": float(alignment(several[:, 0], several[:, 1])),
            "uniformity": float(uniformity(test[name])),
            "embedding_spread": float(embedding_spread(test[name])),
            "relative_distance": {
                augmentation: relative_distance(single["plain"][name], found[name])
                for augmentation, found in single.items()
                if augmentation != "plain"
            },
        }
        depths.append(row)
    numbers = {
        "method": run.name,
        "data": run.data.name,
        "train_images": len(train_labels),
        "test_images": len(test_labels),
        "augmented_images": len(several),
        "views": views,
        "depths": depths,
    }
    return Evaluation(_plain(numbers), train, test, test_labels)


def _encode_single(encoded, batches: Iterator[dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Features by depth and augmentation."""
    parts: dict[str, list[dict[str, Tensor]]] = {}
    for batch in batches:
        for name, images in batch.items():
            parts.setdefault(name, []).append(encoded(iter([_unlabelled(images)]))[0])
    return {
        name: {depth: torch.cat([part[depth] for part in found]) for depth in found[0]}
        for name, found in parts.items()
    }


def _flat(batches: Iterator[Tensor]) -> Batches:
    """Images (n, q, …) as one batch of images."""
    for images in batches:
        for part in images.flatten(0, 1).split(CHUNK_SIZE):
            yield _unlabelled(part)


def _unlabelled(images: Tensor) -> tuple[Tensor, Tensor]:
    return images, torch.zeros(len(images), dtype=torch.int64)


def _alpha_req(features: Tensor) -> float | None:
    try:
        return alpha_req(features)
    except ValueError:  # fewer than 12 dimensions, or effectively fewer
        return None


def _plain(value: Any) -> Any:
    """The value with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_plain(x) for x in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
