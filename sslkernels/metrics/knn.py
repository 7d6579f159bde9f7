"""Accuracy of a nearest-neighbour classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_integers, check_positive
from .._operator import accumulation_dtype
from ..primitives import nearest_neighbor
from ._checks import check_features, check_finite, check_pair, checked_labels
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
        train_labels: (n,) integers, classes 0, 1, …
        test_features: (m, d), on the same device.
        test_labels: (m,), likewise.
        k: number of neighbours, 1..n.
        temperature: of the weights, above 0.
        chunk_size: test samples at a time, ≥ 1; affects memory only.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        TypeError: features are not floating-point tensors, labels not integers, or k, temperature
            or chunk_size not a number.
        ValueError: shapes or devices do not match, a set is empty, a feature is not finite, a label
            is below 0, or k, temperature or chunk_size is out of range.
    """
    check_features("train_features", train_features)
    check_features("test_features", test_features)
    train_labels = checked_labels("train_labels", train_labels, train_features)
    test_labels = checked_labels("test_labels", test_labels, test_features)
    check_pair(train_features, test_features)
    check_integers(1, len(train_features), k=k)
    check_integers(1, chunk_size=chunk_size)
    check_positive(temperature=temperature)
    k, chunk_size, temperature = int(k), int(chunk_size), float(temperature)
    check_finite("train_features", train_features)
    check_finite("test_features", test_features)

    classes, train_labels = train_labels.unique(return_inverse=True)
    bank = unit_rows(train_features)
    dtype = torch.promote_types(bank.dtype, accumulation_dtype(test_features))
    bank = bank.to(dtype)
    correct = 0
    for features, labels in zip(
        test_features.split(chunk_size), test_labels.split(chunk_size), strict=True
    ):
        queries = unit_rows(features).to(dtype)
        similarity, index = nearest_neighbor(queries, bank, k)  # (chunk, k)
        # Weights relative to the nearest neighbour: the same prediction, without overflow.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(features), len(classes))
        votes.scatter_add_(1, train_labels[index], weights)
        correct += int((classes[votes.argmax(1)] == labels).sum())
    return correct / len(test_features)
