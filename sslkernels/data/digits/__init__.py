"""Five thousand handwritten digits of MNIST that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._checks import as_device

__all__ = ["DigitSplit", "load_digits"]


class DigitSplit(NamedTuple):
    """Images (n, 28, 28) uint8, ink bright on black, and labels (n,) int64 in 0..9."""

    images: Tensor
    labels: Tensor


def load_digits(device: torch.device | str = "cpu") -> tuple[DigitSplit, DigitSplit]:
    """Load the digits as a training and a test split. Nothing is downloaded.

    Every fifth image of each class is a test image, so the split is always the same and the classes
    are balanced.

    Args:
        device: the device of the tensors.

    Returns:
        ``(train, test)``: 4,000 and 1,000 digits, 400 and 100 of each class, sorted by class.

    Source: LeCun and Cortes, the MNIST database of handwritten digits. See ``LICENSE`` and
    ``README.md`` beside the data file.
    """
    device = as_device(device)
    with files(__name__).joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        images = torch.from_numpy(archive["images"])
        labels = torch.from_numpy(archive["labels"].astype(np.int64))
    images, labels = images.to(device), labels.to(device)
    is_test = (
        torch.arange(len(labels), device=device) % 5 == 4
    )  # the file holds 500 of each class, in order
    return (
        DigitSplit(images[~is_test], labels[~is_test]),
        DigitSplit(images[is_test], labels[is_test]),
    )
