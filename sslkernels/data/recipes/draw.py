"""Draws the parameters of views on the generator's device, without synchronisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from ..._checks import check_integer_tensors
from ...primitives.augment_views.parameters import OPERATIONS, Parameters, pack_order
from .._checks import check_generator
from .view import View
from .views import views_of

TRIES = 10  # at a crop that fits the image, then a central one, as in torchvision
ORDERS = [pack_order(order) for order in permutations(range(len(OPERATIONS)))]


def draw_parameters(views: Sequence[View], sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Parameters of every view of every image, all independent.

    Crops are drawn like torchvision's ``RandomResizedCrop``, jitter like its ``ColorJitter``.

    Args:
        views: V views, such as a recipe's ``views``.
        sizes: (N, 2) integers, height and width of each image, on the device of ``generator``.
        generator: source of all random numbers; the same state gives the same parameters.

    Returns:
        (V, N, 13) float32 on the device of ``generator``, as :func:`sslkernels.augment_views` takes
        them.

    Raises:
        TypeError: sizes of the wrong dtype.
        ValueError: no view, sizes of the wrong shape or on another device.
    """
    views = views_of(views, "views")
    check_integer_tensors(sizes=sizes)
    if sizes.dim() != 2 or sizes.shape[1] != 2 or len(sizes) == 0:
        raise ValueError(f"sizes must be (N, 2), got {tuple(sizes.shape)}")
    check_generator(generator, sizes.device)
    v = _distributions(views, sizes.device)
    shape = len(views), len(sizes)

    def uniform(*more: int) -> Tensor:
        return torch.rand(*more, *shape, generator=generator, device=sizes.device)

    def happens(probability: Tensor) -> Tensor:
        return uniform() < probability

    def between(low: Tensor, high: Tensor) -> Tensor:
        return low + uniform() * (high - low)

    def factor(strength: Tensor, jittered: Tensor) -> Tensor:
        return torch.where(jittered, between((1 - strength).clamp_min(0), 1 + strength), 1.0)

    crop = _crops(v, sizes.float(), uniform(2, TRIES), uniform(2))
    jittered = happens(v.jitter)
    order = _orders(sizes.device)[(uniform() * len(ORDERS)).long().clamp_max(len(ORDERS) - 1)]
    gray = happens(v.grayscale)
    blurred, solarized = happens(v.blur), happens(v.solarize)
    return Parameters(
        *crop,
        happens(v.flip),
        order,
        factor(v.brightness, jittered),
        factor(v.contrast, jittered),
        factor(v.saturation, jittered),
        torch.where(jittered, between(-v.hue, v.hue), 0.0),
        torch.where(gray, 1 + v.grayscale_first, 0.0),
        torch.where(blurred, between(v.sigma_low, v.sigma_high), 0.0),
        torch.where(solarized, v.solarize_threshold, 256.0),
    ).stack()


class _Distributions(NamedTuple):
    """The settings of the views, (V, 1) each."""

    scale_low: Tensor
    scale_high: Tensor
    log_ratio_low: Tensor
    log_ratio_high: Tensor
    flip: Tensor
    jitter: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    grayscale_first: Tensor
    blur: Tensor
    sigma_low: Tensor
    sigma_high: Tensor
    solarize: Tensor
    solarize_threshold: Tensor


@lru_cache(maxsize=64)  # copied to a device only once
def _distributions(views: tuple[View, ...], device: torch.device) -> _Distributions:
    rows = [
        (
            *v.scale, *map(math.log, v.ratio), v.flip, v.jitter, v.brightness, v.contrast,
            v.saturation, v.hue, v.grayscale, v.grayscale_first, v.blur, *v.sigma, v.solarize,
            v.solarize_threshold,
        )
        for v in views
    ]  # fmt: skip
    columns = torch.tensor(rows, dtype=torch.float32, device=device)
    return _Distributions(*columns[..., None].unbind(1))


@lru_cache(maxsize=64)
def _orders(device: torch.device) -> Tensor:
    return torch.tensor(ORDERS, device=device)


def _crops(
    v: _Distributions, sizes: Tensor, tries: Tensor, place: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width, (V, N) each, from uniform numbers (2, tries, V, N), (2, V, N).

    All tries are computed; the first that fits is used.
    """
    height, width = sizes.unbind(1)
    area = height * width * (v.scale_low + tries[0] * (v.scale_high - v.scale_low))
    ratio = torch.exp(v.log_ratio_low + tries[1] * (v.log_ratio_high - v.log_ratio_low))
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    low, high = v.log_ratio_low.exp(), v.log_ratio_high.exp()
    central_height = torch.where(width / height < low, (width / low).round(), height)
    central_width = torch.where(width / height > high, (height * high).round(), width)
    crop_height = torch.where(found, heights.gather(0, first)[0], central_height)
    crop_width = torch.where(found, widths.gather(0, first)[0], central_width)
    room = torch.stack([height - crop_height, width - crop_width])
    placed = torch.minimum((place * (room + 1)).floor(), room)
    top, left = torch.where(found, placed, (room / 2).floor())
    return top, left, crop_height, crop_width
