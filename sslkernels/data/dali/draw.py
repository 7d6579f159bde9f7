"""The random numbers of views, drawn outside DALI so that its pipeline keeps no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..recipes.view import View

ATTEMPTS = 10


class DrawnViews(NamedTuple):
    """What makes V views out of each of N images; replayable, and where each crop came from.

    Attributes:
        boxes: (N, V, 4) int64, top, left, height and width of the crop in pixels of the image.
        flips: (N, V) bool, mirrored left to right after the crop.
        quarter_turns: (N, V) int64 in 0..3, counter-clockwise, after the flip.
        jitters: (N, V) bool.
        orders: (N, V, 4) int64, which of brightness, contrast, saturation and hue (0 to 3) comes
            first, second, third and last.
        factors: (N, V, 4) float32 of brightness, contrast and saturation, and the shift of hue
            in turns.
        grays: (N, V) bool.
        sigmas: (N, V) float32 in pixels; 0: no blur.
        solarized: (N, V) bool.
    """

    boxes: Tensor
    flips: Tensor
    quarter_turns: Tensor
    jitters: Tensor
    orders: Tensor
    factors: Tensor
    grays: Tensor
    sigmas: Tensor
    solarized: Tensor


def draw_views(
    views: Sequence[View], sizes: Tensor, generator: torch.Generator, *, turn: bool = False
) -> DrawnViews:
    """Draw each image's views independently.

    Args:
        views: the distributions, one per view.
        sizes: (N, 2) int64, height and width of the images.
        generator: source of every random number, on the CPU.
        turn: draw quarter turns too; else they are 0.

    Returns:
        Tensors on the CPU.
    """
    drawn = [_draw_view(view, sizes, generator, turn) for view in views]
    return DrawnViews(*(torch.stack(tensors, 1) for tensors in zip(*drawn, strict=True)))


def _draw_view(
    view: View, sizes: Tensor, generator: torch.Generator, turn: bool
) -> tuple[Tensor, ...]:
    count = len(sizes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    def happens(probability: float) -> Tensor:
        return torch.rand(count, generator=generator) < probability

    boxes = _draw_boxes(view, sizes, generator)
    flips = happens(view.flip)
    quarter_turns = torch.randint(4, (count,), generator=generator) * turn
    jitters = happens(view.jitter)
    orders = torch.rand(count, 4, generator=generator).argsort(1)
    strengths = (view.brightness, view.contrast, view.saturation)
    factors = [uniform(max(0.0, 1 - x), 1 + x) for x in strengths]
    hue = uniform(-view.hue, view.hue)
    grays = happens(view.grayscale)
    sigmas = uniform(*view.sigma) * happens(view.blur)
    solarized = happens(view.solarize)
    factors = torch.stack([*factors, hue], 1)
    return boxes, flips, quarter_turns, jitters, orders, factors, grays, sigmas, solarized


def _draw_boxes(view: View, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """As torchvision's RandomResizedCrop: the first of ten that fits, else a central one."""
    count = len(sizes)
    height, width = (size[:, None] for size in sizes.double().unbind(1))  # (N, 1)
    random = torch.rand(count, ATTEMPTS, 2, generator=generator, dtype=torch.float64)
    low, high = view.scale
    area = height * width * (low + random[..., 0] * (high - low))
    low, high = (math.log(ratio) for ratio in view.ratio)
    ratio = (low + random[..., 1] * (high - low)).exp()
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (N, 10)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(1, keepdim=True)
    boxes = torch.cat([heights.gather(1, first), widths.gather(1, first)], 1)

    central_height = torch.minimum(height, (width / view.ratio[0]).round())
    central_width = torch.minimum(width, (height * view.ratio[1]).round())
    central = torch.cat([central_height, central_width], 1)
    has_fit = fits.any(1, keepdim=True)
    extents = torch.where(has_fit, boxes, central)

    places = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    room = sizes - extents
    starts = torch.where(has_fit, (places * (room + 1)).floor(), (room / 2).floor())
    return torch.cat([starts, extents], 1).long()
