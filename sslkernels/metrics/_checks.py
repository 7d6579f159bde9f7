"""Checks that metrics share."""

from __future__ import annotations

from torch import Tensor


def check_features(name: str, features: Tensor, *, rows: int = 1) -> None:
    """(n, d) floating point, with at least ``rows`` rows and one column."""
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if features.ndim != 2 or len(features) < rows or features.shape[1] == 0:
        raise ValueError(
            f"{name} must be (n, d) with n ≥ {rows}, got shape {tuple(features.shape)}"
        )


def check_labels(name: str, labels: Tensor, features: Tensor) -> None:
    """(n,) int64, one per row of ``features``, none below 0."""
    if labels.is_floating_point():
        raise TypeError(f"{name} must be whole numbers, got {labels.dtype}")
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name} must be ({len(features)},), one per feature, got shape {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0:
        raise ValueError(f"{name} must be classes 0, 1, …, got {int(labels.min())}")


def check_finite(name: str, features: Tensor) -> None:
    if not features.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in some")


def check_above_zero(name: str, value: float) -> None:
    if not value > 0 or value == float("inf"):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
