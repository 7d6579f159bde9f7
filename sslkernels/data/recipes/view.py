"""What one view of an image is: a distribution over crops, colours and blurs."""

from __future__ import annotations

from dataclasses import dataclass

from ...primitives.augment_views.api import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class View:
    """One view: a crop resized to a square, then flip, jitter, grey, blur, solarisation.

    Attributes:
        size: side of the view in pixels.
        scale: range of the crop's share of the image's area.
        ratio: range of the crop's width over its height, uniform in its logarithm.
        interpolation: of the resize, "bicubic" or "bilinear"; antialiased.
        flip: probability of a horizontal flip.
        jitter: probability that brightness, contrast, saturation and hue change, in random order.
        brightness, contrast, saturation: the factor is uniform in [max(0, 1 − x), 1 + x].
        hue: the shift is uniform in ±x, in turns of the circle of hues; at most 0.5.
        grayscale: probability of a grey view.
        grayscale_first: grey before the jitter rather than after it.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation in pixels.
        solarize: probability that values from ``solarize_threshold`` on, of 255, are inverted.
        mean, std: by channel, of values in [0, 1]; subtracted, and divided by.
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
