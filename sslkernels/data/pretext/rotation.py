"""Rotation: predict the orientation of the image (Gidaris et al. 2018, arXiv:1803.07728)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import check_shares
from .._checks import check_generator
from ._tiles import check_tensor


def rotate(
    images: Tensor, generator: torch.Generator, *, flip: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Mirror images at random, then rotate each by a random multiple of 90°.

    The flip must come first: after the rotation it would confuse 90° and 270°, since a mirrored
    image rotated by 90° is the image rotated by 270° and then mirrored.

    Args:
        images: (N, C, side, side) of any dtype.
        generator: source of all random numbers, on the device of ``images``.
        flip: probability of a horizontal flip.

    Returns:
        ``(turned, labels)``: the rotated images in the dtype of ``images``, and (N,) int64 in 0..3,
        quarter turns counter-clockwise.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: images are not square, ``generator`` is on another device, or ``flip`` is out of
            range.
    """
    count = len(_checked(images))
    check_generator(generator, images.device)
    check_shares(flip=flip)
    device = images.device
    is_flipped = torch.rand(count, generator=generator, device=device) < flip
    labels = torch.randint(4, (count,), generator=generator, device=device)
    images = torch.where(is_flipped[:, None, None, None], images.flip(3), images)
    turned = rotate_all(images).view(4, *images.shape)
    return turned[labels, torch.arange(count, device=device)], labels


def rotate_all(images: Tensor) -> Tensor:
    """All four rotations of images (N, C, side, side): (4 N, C, side, side), those by 0° first.

    As Gidaris et al. train; the labels are ``torch.arange(4).repeat_interleave(N)``.
    """
    return torch.cat([torch.rot90(_checked(images), turns, (2, 3)) for turns in range(4)])


def _checked(images: Tensor) -> Tensor:
    check_tensor("images", images)
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (N, C, side, side), got {tuple(images.shape)}")
    return images
