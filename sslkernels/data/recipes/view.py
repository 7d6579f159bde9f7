"""The settings of one view: a distribution over crops, colours and blurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..._checks import (
    check_between,
    check_choice,
    check_flags,
    check_integers,
    check_numbers,
    check_positive,
    check_shares,
    shown,
)
from ...primitives.augment_views.api import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS

LARGEST = 1e6  # times a level or a side, still exact enough in float32


@dataclass(frozen=True, kw_only=True)
class View:
    """One view: a crop resized to a square, then flip, jitter, grey, blur, solarisation.

    Attributes:
        size: side of the view in pixels.
        scale: range of the crop's fraction of the image's area.
        ratio: range of the crop's width over its height, uniform in its logarithm.
        interpolation: of the resize, "bicubic" or "bilinear"; antialiased.
        flip: probability of a horizontal flip.
        jitter: probability that brightness, contrast, saturation and hue change, in random order.
        brightness: x, for a factor uniform in [max(0, 1 − x), 1 + x].
        contrast: likewise.
        saturation: likewise.
        hue: the shift is uniform in ±x, in turns of the hue circle; at most 0.5.
        grayscale: probability of a grey view.
        grayscale_first: convert to grey before the jitter instead of after it.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation in pixels.
        solarize: probability of solarisation, which inverts levels (0 … 255) from
            ``solarize_threshold`` on.
        mean: per channel, subtracted from values in [0, 1].
        std: per channel, by which the difference is divided.

    Raises:
        TypeError, ValueError: a value has the wrong type, or is out of range.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    grayscale_first: bool = False
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: int = 128
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        check_integers(1, size=self.size)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_shares(flip=self.flip, jitter=self.jitter, blur=self.blur)
        check_shares(grayscale=self.grayscale, solarize=self.solarize)
        check_between(0, LARGEST, brightness=self.brightness, contrast=self.contrast)
        check_between(0, LARGEST, saturation=self.saturation)
        check_between(0, 0.5, hue=self.hue)
        check_between(0, 256, solarize_threshold=self.solarize_threshold)
        check_flags(grayscale_first=self.grayscale_first)
        check_range("scale", self.scale)
        check_range("ratio", self.ratio)
        check_range("sigma", self.sigma, is_positive=False)
        for name in ("mean", "std"):
            values = getattr(self, name)
            _check_sequence(name, values)
            if len(values) not in (1, 3):
                raise ValueError(f"{name} must be 1 or 3 numbers, got {len(values)}")
        for value in self.mean:
            check_numbers(mean=value)
        for value in self.std:
            check_positive(std=value)
        for name in ("scale", "ratio", "sigma", "mean", "std"):  # a list has no hash
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "grayscale_first", bool(self.grayscale_first))


def check_range(name: str, value: Any, *, is_positive: bool = True) -> None:
    """Raise unless ``value`` is two numbers in ascending order."""
    _check_sequence(name, value)
    if len(value) != 2:
        raise ValueError(
            f"{name} must be two numbers, the lowest and the highest, got {len(value)}"
        )
    for bound in value:
        check_between(0, LARGEST, **{name: bound})
        if is_positive:
            check_positive(**{name: bound})
    if value[0] > value[1]:
        raise ValueError(f"{name} must rise from the lowest to the highest, got {tuple(value)}")


def _check_sequence(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple of numbers, got {shown(value)}")
