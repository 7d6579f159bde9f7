"""Colour operations of torchvision in DALI's arithmetic: uint8 in, uint8 out.

DALI's own operations differ in definition, not only in rounding: see ``differences.py``.
"""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode

GRAY, RGB = types.DALIImageType.GRAY, types.DALIImageType.RGB


def gray(x: DataNode) -> DataNode:
    """Luminance 0.299 R + 0.587 G + 0.114 B: (height, width, 1)."""
    return fn.color_space_conversion(x, image_type=RGB, output_type=GRAY)


def grayscale(x: DataNode) -> DataNode:
    return fn.color_space_conversion(gray(x), image_type=GRAY, output_type=RGB)


def brightness(x: DataNode, factor: DataNode) -> DataNode:
    return _to_bytes(x * factor)


def contrast(x: DataNode, factor: DataNode) -> DataNode:
    """Contrast about the mean luminance of the image; DALI's is about 128."""
    return _blend(x, fn.reductions.mean(gray(x)), factor)


def saturation(x: DataNode, factor: DataNode) -> DataNode:
    return _blend(x, gray(x), factor)


def hue(x: DataNode, turns: DataNode) -> DataNode:
    """Shift the hue in HSV; DALI's rotates linearly in YIQ.

    The sextant of the hue circle follows from the highest channel; channel n of the result is
    high − (high − low) · clamp(min(k, 4 − k), 0, 1) with k = (n + hue) mod 6, n = 5, 3, 1.
    """
    x = fn.cast(x, dtype=types.DALIDataType.FLOAT)
    r, g, b = x[:, :, 0:1], x[:, :, 1:2], x[:, :, 2:3]
    high = math.max(math.max(r, g), b)
    spread = high - math.min(math.min(r, g), b)
    red, green = high == r, (high == g) & (high != r)
    blue = (high != r) & (high != g)
    sextants = red * (g - b) + green * (b - r + 2 * spread) + blue * (r - g + 4 * spread)
    k = sextants / math.max(spread, 1.0) + 6 * turns
    k = k + types.Constant(np.array([[[5, 3, 1]]], np.float32), device=x.device)
    k = k - 6 * math.floor(k / 6)
    return _to_bytes(high - spread * math.clamp(math.min(k, 4 - k), 0, 1))


def solarize(x: DataNode, threshold: DataNode) -> DataNode:
    return x ^ ((x >= threshold) * np.uint8(255))


def _blend(x: DataNode, other: DataNode, factor: DataNode) -> DataNode:
    return _to_bytes(x * factor + other * (1 - factor))


def _to_bytes(x: DataNode) -> DataNode:
    return fn.cast(x, dtype=types.DALIDataType.UINT8)  # rounds to nearest and saturates
