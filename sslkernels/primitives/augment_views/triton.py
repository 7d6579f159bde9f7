"""Triton kernels: one launch resizes, a second applies colours, a third blurs where needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._tile_table import ceil, power_of_two
from .images import RaggedImages
from .reference import RADIUS
from .triton_kernels import blur_kernel, color_kernel, resize_kernel

WIDE = {"SIDE": 128, "ROWS": 16}
RESIZE_TILE, BLUR_TILE = {1: WIDE, 3: {"SIDE": 64, "ROWS": 16}}, WIDE  # others spill registers
BLOCK = 1024  # pixels
OPTIONS = {"num_warps": 8, "enable_fp_fusion": False}  # Pillow rounds a product and then a sum


def augment_views(
    images: RaggedImages,
    parameters: Tensor,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    out: Tensor,
) -> None:
    """Write the views of parameters (V, N, 13) to out (V, N, C, size, size)."""
    views, count = parameters.shape[:2]
    size, channels = out.shape[-1], images.channels
    tile = RESIZE_TILE[channels]
    tiles = _tiles(size, **tile)
    levels = parameters.new_empty(views * count, channels, size, size, dtype=torch.uint8)
    gray = parameters.new_empty(views * count, tiles, dtype=torch.int32)
    strides = out.stride(-1), out.stride(-3) if channels == 3 else 0
    scales = [1 / (255 * s) for s in std] * (3 // channels)
    shifts = [-m / s for m, s in zip(mean, std, strict=True)] * (3 // channels)
    resize_kernel[(views * count * tiles,)](
        images.data, images.offsets, images.sizes, parameters, levels, gray, count, size,
        images.data.shape[0],
        C=channels, REACH=2 if interpolation == "bicubic" else 1, **tile, **OPTIONS,
    )  # fmt: skip
    color_kernel[(views * count * ceil(size * size, BLOCK),)](
        parameters, levels, gray, out, size * size, tiles, *strides, *scales, *shifts,
        C=channels, TILES=power_of_two(tiles), BLOCK=BLOCK, **OPTIONS,
    )  # fmt: skip
    if size > 1:
        blur_kernel[(views * count * _tiles(size, **BLUR_TILE),)](
            parameters, levels, out, size, *strides, *scales, *shifts,
            C=channels, RADIUS=RADIUS, **BLUR_TILE, **OPTIONS,
        )  # fmt: skip


def _tiles(size: int, SIDE: int, ROWS: int) -> int:
    """The number of tiles of a view."""
    return ceil(size, SIDE) * ceil(size, ROWS)
