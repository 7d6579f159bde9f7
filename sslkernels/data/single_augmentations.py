"""One augmentation at a time, with all others turned off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .._checks import shown
from ._checks import check_bytes, check_generator
from .moved_digits import CANVAS_SIZE, apply_moves, draw_moves
from .recipes import View

MOVES = {"scale": (1, 0, 0, 0), "rotation": (0, 1, 0, 0), "shift": (0, 0, 1, 1)}


def plain_digits(images: Tensor) -> Tensor:
    """Digits (n, height, width) uint8 in the middle of the canvas, upright and of medium size.

    Returns:
        (n, 1, 32, 32) float32 in [0, 1], as from ``move_digits``.
    """
    check_bytes("images", images, "n, height, width")
    return apply_moves(images, torch.zeros(len(images), 4, device=images.device), CANVAS_SIZE)[0]


def single_moves(images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Digits moved in one way only: "scale", "rotation" or "shift".

    That move is drawn as in ``move_digits``, and everything else is as in ``plain_digits``.

    Args:
        images: (n, height, width) uint8, on the device of ``generator``.
        generator: source of all random numbers.

    Returns:
        (n, 1, 32, 32) float32 in [0, 1] for each name of a move.
    """
    check_bytes("images", images, "n, height, width")
    check_generator(generator, images.device)
    moved = {}
    for name, kept in MOVES.items():
        moves = draw_moves(len(images), generator) * torch.tensor(kept, device=images.device)
        moved[name] = apply_moves(images, moves, CANVAS_SIZE)[0]
    return moved


def plain_view(view: View) -> View:
    """A view of the same size and normalisation: the largest central square, no augmentation."""
    if not isinstance(view, View):
        raise TypeError(f"view must be a View, got {shown(view)}")
    return View(
        size=view.size, mean=view.mean, std=view.std, interpolation=view.interpolation,
        scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grayscale=0, blur=0, solarize=0,
    )  # fmt: skip


def single_views(view: View) -> Mapping[str, View]:
    """Views that differ from ``plain_view(view)`` by one augmentation, which is always applied.

    "crop", "flip", "colour", "grey", "blur" and "solarise", with the ranges of ``view``.
    Augmentations without a range there, such as colours that ``view`` does not change, are left
    out.
    """
    plain = plain_view(view)
    colors = {name: getattr(view, name) for name in ("brightness", "contrast", "saturation", "hue")}
    singles = {
        "crop": replace(plain, scale=view.scale, ratio=view.ratio),
        "flip": replace(plain, flip=1),
        "colour": replace(plain, jitter=1, **colors),
        "grey": replace(plain, grayscale=1),
        "blur": replace(plain, blur=1, sigma=view.sigma),
        "solarise": replace(plain, solarize=1, solarize_threshold=view.solarize_threshold),
    }
    if not any(colors.values()):
        del singles["colour"]
    return singles
