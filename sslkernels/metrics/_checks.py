"""Checks that metrics share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._values import check_number, kind


def check_tensor(name: str, value: Any) -> None:
    """A floating-point tensor that has values."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else kind(value)
        raise TypeError(f"{name} must be a floating-point tensor, got {found}")
    if value.is_meta:
        raise ValueError(f"{name} must have values, got a tensor on the meta device")


def check_features(name: str, features: Any, *, rows: int = 1) -> None:
    """(n, d) floating point, with at least ``rows`` rows and one column."""
    check_tensor(name, features)
    if features.ndim != 2 or len(features) < rows or features.shape[1] == 0:
        raise ValueError(
            f"{name} must be (n, d) with n ≥ {rows}, got shape {tuple(features.shape)}"
        )


def checked_labels(name: str, labels: Any, features: Tensor) -> Tensor:
    """Labels (n,) as int64, one per row of ``features`` and none below 0; of any whole dtype."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        found = labels.dtype if isinstance(labels, Tensor) else kind(labels)
        raise TypeError(f"{name} must be a tensor of whole numbers, got {found}")
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
    """Features of one width, on one device."""
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            "train_features and test_features must have the same width, got "
            f"{train.shape[1]} and {test.shape[1]}"
        )
    if train.device != test.device:
        raise ValueError(
            "train_features and test_features must be on one device, got "
            f"{train.device} and {test.device}"
        )


def check_finite(name: str, features: Tensor) -> None:
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in some")


def check_above_zero(name: str, value: Any) -> float:
    return check_number(name, value, above=0)
