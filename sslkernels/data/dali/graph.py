"""The graph of a DALI pipeline that makes views: plain functions, without any state.

AutoGraph turns each ``if`` on a value of the pipeline into a split of the batch, so an operation
runs on the images that take it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from ..recipes.view import View
from . import color
from .draw import DrawnViews

INTERPOLATIONS = {"bicubic": types.INTERP_CUBIC, "bilinear": types.INTERP_LINEAR}


def pack(drawn: DrawnViews) -> np.ndarray:
    """The numbers (N, V, 18) float32 that ``make_view`` reads."""
    return np.concatenate(
        [values.numpy().astype(np.float32).reshape(*drawn.flips.shape, -1) for values in drawn],
        axis=2,
    )


def decode(encoded: DataNode, device: str) -> DataNode:
    """RGB (height, width, 3) uint8 as stored: EXIF turns nothing, as in torchvision's folders."""
    return fn.decoders.image(
        encoded, device=device, output_type=types.RGB, adjust_orientation=False
    )


def make_views(
    image: DataNode, numbers: DataNode, views: Sequence[View], turn: bool
) -> list[DataNode]:
    return [make_view(image, numbers[index], view, turn) for index, view in enumerate(views)]


def make_view(image: DataNode, numbers: DataNode, view: View, turn: bool) -> DataNode:
    """One view (3, size, size) float32 of each image, from the row (18,) of its numbers."""
    x = fn.slice(
        image,
        numbers[0:2],
        numbers[2:4],
        axes=(0, 1),
        normalized_anchor=False,
        normalized_shape=False,
    )
    x = fn.resize(
        x,
        size=(view.size, view.size),
        interp_type=INTERPOLATIONS[view.interpolation],
        antialias=True,
    )
    x = fn.flip(x, horizontal=fn.cast(numbers[4], dtype=types.INT32))
    if turn:
        x = _turn(x, numbers[5])
    if view.grayscale_first:
        x = _grayscale(x, numbers[15])
        x = _jitter(x, numbers)
    else:
        x = _jitter(x, numbers)
        x = _grayscale(x, numbers[15])
    if numbers[16] > 0:
        x = fn.gaussian_blur(x, sigma=numbers[16])
    if numbers[17] > 0:
        x = color.solarize(x, view.solarize_threshold)
    return fn.crop_mirror_normalize(
        x,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=[255 * mean for mean in view.mean],
        std=[255 * std for std in view.std],
    )


def _grayscale(x: DataNode, is_gray: DataNode) -> DataNode:
    if is_gray > 0:
        x = color.grayscale(x)
    return x


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


def _jitter(x: DataNode, numbers: DataNode) -> DataNode:
    if numbers[6] > 0:
        for place in (7, 8, 9, 10):
            x = _adjust(x, numbers[place], numbers[11], numbers[12], numbers[13], numbers[14])
    return x


def _adjust(
    x: DataNode,
    which: DataNode,
    brightness: DataNode,
    contrast: DataNode,
    saturation: DataNode,
    hue: DataNode,
) -> DataNode:
    if which == 0:
        x = color.brightness(x, _beside(x, brightness))
    elif which == 1:
        x = color.contrast(x, _beside(x, contrast))
    elif which == 2:
        x = color.saturation(x, _beside(x, saturation))
    else:
        x = color.hue(x, _beside(x, hue))
    return x


def _beside(x: DataNode, number: DataNode) -> DataNode:
    return number.gpu() if x.device == "gpu" else number
