"""Inputs of views, and the levels by which they are compared."""

from __future__ import annotations

from functools import cache

import numpy as np
import skimage.data
import torch
from torch import Tensor

from sslkernels.primitives.augment_views.parameters import Parameters, pack_order


@cache
def natural_images() -> list[Tensor]:
    """Photographs that ship with scikit-image, (h, w, 3) uint8, of different sizes."""
    images = [
        skimage.data.astronaut()[:400, :500],
        skimage.data.coffee(),
        skimage.data.chelsea(),
        skimage.data.rocket(),
    ]
    return [torch.from_numpy(np.ascontiguousarray(image)) for image in images]


def plain_parameters(image: Tensor, **changes: float) -> Tensor:
    """(13,): the whole image without changes, except for these."""
    height, width = image.shape[:2]
    values = dict.fromkeys(Parameters._fields, 0.0)
    values |= {"height": height, "width": width, "order": pack_order(range(4)), "solarize": 256}
    values |= {"brightness": 1, "contrast": 1, "saturation": 1}
    return torch.tensor(list((values | changes).values()), dtype=torch.float32)


def levels(views: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Values in [0, 1] as integer levels 0 … 255; fails if they are not integers."""
    x = 255 * (views.double() * std + mean)
    assert (x - x.round()).abs().max() < 1e-3, "not whole levels"
    return x.round().long()
