"""Pretext tasks as data: images with labels derived from the images themselves."""

from .colorization import (
    color_bins,
    colorization,
    rebalancing_weights,
    rgb_to_lab,
    soft_encode,
)
from .jigsaw import jigsaw, jigsaw_permutations
from .relative_patch import drop_colors, relative_patches
from .rotation import rotate, rotate_all

__all__ = [
    "color_bins",
    "colorization",
    "drop_colors",
    "jigsaw",
    "jigsaw_permutations",
    "rebalancing_weights",
    "relative_patches",
    "rgb_to_lab",
    "rotate",
    "rotate_all",
    "soft_encode",
]
