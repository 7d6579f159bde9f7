"""Patches of photographs that ship with scikit-image, in colour. Nothing is downloaded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._checks import as_device

PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
    "stereo_motorcycle",
)
SIDE = 48
BLOCK = 96  # side of the squares that are split into training and test squares
TRAIN_PATCHES, TEST_PATCHES = 500, 125
SEED = 0


class PhotoSplit(NamedTuple):
    """Images (n, 48, 48, 3) uint8, and labels (n,) int64, the index into ``PHOTOGRAPHS``."""

    images: Tensor
    labels: Tensor


def load_photos(device: torch.device | str = "cpu") -> tuple[PhotoSplit, PhotoSplit]:
    """Load patches of photographs as a training and a test split.

    Each photograph is divided into squares of 96 pixels, every fifth of which is a test square.
    Patches lie within a square, so no pixel is in both splits. They are the same at each call.

    Args:
        device: the device of the tensors.

    Returns:
        ``(train, test)``: 4,000 and 1,000 patches, 500 and 125 of each photograph, in order.

    Raises:
        ImportError: scikit-image is missing.
    """
    device = as_device(device)
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "photographs come with scikit-image: `pip install scikit-image`; "
            "or train on a folder of images: data=FOLDER"
        ) from error
    random = np.random.default_rng(SEED)
    splits: tuple[list[np.ndarray], ...] = [], []
    for name in PHOTOGRAPHS:
        found = getattr(skimage.data, name)()
        photograph = found[0] if isinstance(found, tuple) else found  # a stereo pair: the left one
        for patches, corners, count in zip(
            splits, _blocks(photograph), (TRAIN_PATCHES, TEST_PATCHES), strict=True
        ):
            corners = corners[np.arange(count) % len(corners)]
            places = corners + random.integers(BLOCK - SIDE + 1, size=corners.shape)
            patches += [photograph[y : y + SIDE, x : x + SIDE] for y, x in places]
    train, test = (torch.from_numpy(np.stack(patches)).to(device) for patches in splits)
    numbers = torch.arange(len(PHOTOGRAPHS), device=device)
    return (
        PhotoSplit(train, numbers.repeat_interleave(TRAIN_PATCHES)),
        PhotoSplit(test, numbers.repeat_interleave(TEST_PATCHES)),
    )


def _blocks(photograph: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 2), row and column, of the training and of the test squares."""
    rows, columns = (side // BLOCK for side in photograph.shape[:2])
    row, column = np.divmod(np.arange(rows * columns), columns)
    is_test = (row + 2 * column) % 5 == 2  # no two test squares touch
    corners = BLOCK * np.stack([row, column], 1)
    return corners[~is_test], corners[is_test]
