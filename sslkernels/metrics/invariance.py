"""Invariance: the effect of an augmentation on features, relative to that of another image."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_features


@torch.no_grad()
def relative_distance(plain: Tensor, augmented: Tensor) -> float:
    """``mean_i ‖f(x_i) − f(T x_i)‖² / mean_{i≠j} ‖f(x_i) − f(x_j)‖²`` of features f.

    0: the features are invariant to the augmentation T; 1: T changes features as much as
    replacing the image by another one. It does not depend on the scale or the origin of the
    features, so layers can be compared. Both means take O(n d): the second is twice the trace of
    the covariance (divided by n − 1).

    Args:
        plain: (n, d) floating point, features of n ≥ 2 images. Computed in float64.
        augmented: (n, d), features of the same images, augmented.

    Returns:
        The ratio, at least 0; NaN if the features of all images are equal.

    Raises:
        TypeError, ValueError: the features are not (n, d) floating point with n ≥ 2, or their
            shapes differ.
    """
    check_features("plain", plain, rows=2)
    check_features("augmented", augmented, rows=2)
    if plain.shape != augmented.shape:
        raise ValueError(
            f"plain and augmented must have the same shape, got {tuple(plain.shape)} and "
            f"{tuple(augmented.shape)}"
        )
    plain, augmented = plain.double(), augmented.double()
    change = (plain - augmented).square().sum(1).mean()
    spread = 2 * plain.var(0).sum()
    return float(change / spread)
