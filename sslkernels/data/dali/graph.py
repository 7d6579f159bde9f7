"""The graph of a DALI pipeline that makes views: plain functions without state.

AutoGraph turns each ``if`` on a pipeline value into a split of the batch, so an operation runs
only on the images that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from torch import Tensor

from ...primitives.augment_views.parameters import Parameters
from ..recipes.view import View
from . import color

INTERPOLATIONS = {
    "bicubic": types.DALIInterpType.INTERP_CUBIC,
    "bilinear": types.DALIInterpType.INTERP_LINEAR,
}


class Numbers(NamedTuple):
    """The layout of a row of ``pack``; ``order`` takes four entries."""

    top: int = 0
    height: int = 2
    flip: int = 4
    quarter_turns: int = 5
    jitter: int = 6
    order: int = 7
    brightness: int = 11
    contrast: int = 12
    saturation: int = 13
    hue: int = 14
    grayscale: int = 15
    sigma: int = 16
    solarize: int = 17


AT = Numbers()


def pack(parameters: Tensor, quarter_turns: Tensor) -> np.ndarray:
    """The numbers (N, V, 18) float32 that ``make_view`` reads, from (V, N, 13) and (V, N)."""
    p = Parameters.of(parameters)
    factors = p.brightness, p.contrast, p.saturation, p.hue
    is_changed = (p.brightness != 1) | (p.contrast != 1) | (p.saturation != 1) | (p.hue != 0)
    return (
        torch.stack(
            [
                *(p.top, p.left, p.height, p.width, p.flip, quarter_turns),
                is_changed,
                *(p.operations(position) for position in range(4)),
                *(*factors, p.grayscale, p.sigma, p.solarize),
            ],
            -1,
        )
        .transpose(0, 1)
        .contiguous()
        .numpy()
    )


def decode(encoded: DataNode, device: str) -> DataNode:
    """RGB (height, width, 3) uint8 as stored: EXIF orientation is ignored, as in torchvision."""
    return fn.decoders.image(
        encoded, device=device, output_type=types.DALIImageType.RGB, adjust_orientation=False
    )


def make_views(image: DataNode, numbers: DataNode, views: Sequence[View]) -> list[DataNode]:
    return [make_view(image, numbers[index], view) for index, view in enumerate(views)]


def make_view(image: DataNode, numbers: DataNode, view: View) -> DataNode:
    """One view (3, size, size) float32 of each image, from its row (18,) of numbers."""
    x = fn.slice(
        image,
        numbers[AT.top : AT.top + 2],
        numbers[AT.height : AT.height + 2],
        axes=(0, 1),
        normalized_anchor=False,
        normalized_shape=False,
    )
    x = fn.resize(  # type: ignore[assignment]
        x,
        size=(view.size, view.size),
        interp_type=INTERPOLATIONS[view.interpolation],
        antialias=True,
    )
    x = fn.flip(x, horizontal=fn.cast(numbers[AT.flip], dtype=types.DALIDataType.INT32))
    x = _turn(x, numbers[AT.quarter_turns])
    if numbers[AT.grayscale] == 2:
        x = color.grayscale(x)
    if numbers[AT.jitter] > 0:
        for place in range(4):
            x = _adjust(x, numbers[AT.order + place], numbers)
    if numbers[AT.grayscale] == 1:
        x = color.grayscale(x)
    if numbers[AT.sigma] > 0:
        x = fn.gaussian_blur(x, sigma=numbers[AT.sigma])
    if numbers[AT.solarize] < 256:
        x = color.solarize(x, _beside(x, numbers[AT.solarize]))
    return fn.crop_mirror_normalize(
        x,
        dtype=types.DALIDataType.FLOAT,
        output_layout="CHW",
        mean=[255 * mean for mean in view.mean],
        std=[255 * std for std in view.std],
    )


def _turn(x: DataNode, quarter_turns: DataNode) -> DataNode:
    if quarter_turns == 1:
        x = fn.flip(_transpose(x), horizontal=0, vertical=1)
    elif quarter_turns == 2:
        x = fn.flip(x, horizontal=1, vertical=1)
    elif quarter_turns == 3:
        x = fn.flip(_transpose(x), horizontal=1, vertical=0)
    return x


def _transpose(x: DataNode) -> DataNode:
    return fn.transpose(x, perm=[1, 0, 2], transpose_layout=False)


def _adjust(x: DataNode, operation: DataNode, numbers: DataNode) -> DataNode:
    if operation == 0:
        x = color.brightness(x, _beside(x, numbers[AT.brightness]))
    elif operation == 1:
        x = color.contrast(x, _beside(x, numbers[AT.contrast]))
    elif operation == 2:
        x = color.saturation(x, _beside(x, numbers[AT.saturation]))
    else:
        x = color.hue(x, _beside(x, numbers[AT.hue]))
    return x


def _beside(x: DataNode, number: DataNode) -> DataNode:
    return number.gpu() if x.device == "gpu" else number
