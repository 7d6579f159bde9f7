"""Checks shared by metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import (
    check_devices,
    check_have_values,
    check_integer_tensors,
    check_tensors,
)


def check_features(name: str, features: Any, *, rows: int = 1) -> None:
    """Check for (n, d) floating point, with at least ``rows`` rows and one column."""
    check_tensors(**{name: features})
    check_have_values(**{name: features})
    if features.ndim != 2 or len(features) < rows or features.shape[1] == 0:
        raise ValueError(
            f"{name} must be (n, d) with n ≥ {rows}, got shape {tuple(features.shape)}"
        )


def checked_labels(name: str, labels: Any, features: Tensor) -> Tensor:
    """Labels (n,) as int64, one per row of ``features`` and none below 0; any integer dtype."""
    check_integer_tensors(**{name: labels})
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name} must be ({len(features)},), one per feature, got shape {tuple(labels.shape)}"
        )
    if labels.device != features.device:
        raise ValueError(
            f"{name} must be on {features.device} like the features, got {labels.device}"
        )
    labels = labels.long()
    if int(labels.min()) < 0:
        raise ValueError(f"{name} must be classes 0, 1, …, got {int(labels.min())}")
    return labels


def check_pair(train: Tensor, test: Tensor) -> None:
    """Check for features of the same width, on one device."""
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            "train_features and test_features must have the same width, got "
            f"{train.shape[1]} and {test.shape[1]}"
        )
    check_devices(train_features=train, test_features=test)


def check_finite(name: str, features: Tensor) -> None:
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in some")
