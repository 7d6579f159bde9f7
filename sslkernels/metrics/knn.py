"""Accuracy of a classifier by nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ..primitives import nearest_neighbor
from .collapse import unit_rows

CHUNK_SIZE = 1024


@torch.no_grad()
def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Accuracy of the weighted k-nearest-neighbour classifier (Wu et al. 2018, arXiv:1805.01978).

    Each of the k training samples most similar to a test sample (cosine similarity s) votes for
    its own class with weight exp(s / temperature). k = 20 and temperature = 0.07 are the values
    of DINO (Caron et al. 2021, arXiv:2104.14294). The m × n similarities are never stored;
    votes are counted for ``chunk_size`` test samples at a time.

    Args:
        train_features: (n, d) floating point; normalised here, in float32 or wider.
        train_labels: (n,) int64, classes 0, 1, …
        test_features: (m, d), on the same device.
        test_labels: (m,) int64.
        k: neighbours that vote, 1..n.
        temperature: of the vote, > 0.
        chunk_size: test samples at a time, ≥ 1; changes memory, not the result.

    Returns:
        The fraction of test samples classified as labelled, in [0, 1].

    Raises:
        ValueError: shapes do not match, a set is empty, or k, temperature or chunk_size is out of
            range.
    """
    _check_features("train", train_features, train_labels)
    _check_features("test", test_features, test_labels)
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            "train_features and test_features must have the same width, got "
            f"{train_features.shape[1]} and {test_features.shape[1]}"
        )
    if not 1 <= k <= len(train_features):
        raise ValueError(f"k must be in 1..{len(train_features)}, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")

    classes = int(train_labels.max()) + 1
    bank = unit_rows(train_features)
    correct = 0
    for features, labels in zip(
        test_features.split(chunk_size), test_labels.split(chunk_size), strict=True
    ):
        similarity, index = nearest_neighbor(unit_rows(features), bank, k)  # (chunk, k)
        # Votes relative to the best neighbour: the same winner, and no overflow.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(features), classes)
        votes.scatter_add_(1, train_labels[index], weights)
        correct += int((votes.argmax(1) == labels).sum())
    return correct / len(test_features)


def _check_features(name: str, features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(
            f"{name}_features must be (n, d) with n ≥ 1, got shape {tuple(features.shape)}"
        )
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}_labels must be ({len(features)},), one per feature, "
            f"got shape {tuple(labels.shape)}"
        )
