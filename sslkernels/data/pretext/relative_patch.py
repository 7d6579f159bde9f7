"""Relative position: predict the position of a patch (Doersch et al. 2015, arXiv:1505.05192)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import check_integers
from .._checks import check_generator
from ._tiles import check_colors, check_images, cut, random_integers

# Rows, then columns, in steps of a patch and a gap from the centre: labels 0 to 7.
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def relative_patches(
    images: Tensor,
    generator: torch.Generator,
    *,
    patch: int = 96,
    gap: int = 48,
    jitter: int = 7,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a patch and one of its eight neighbours out of each image.

    The pair has a random position in the image, and each patch is moved by up to ``jitter`` pixels
    along both axes from its position in a grid of patches with gaps in between.

    Args:
        images: (N, C, height, width) of any dtype.
        generator: source of all random numbers, on the device of ``images``.
        patch, gap, jitter: in pixels; by default the paper's.

    Returns:
        ``(centers, neighbors, labels)``: two tensors (N, C, patch, patch) in the dtype of
        ``images``, and (N,) int64 in 0..7, by rows: 0 above left, 1 above, 3 left, 7 below right.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``images`` of the wrong shape or device, too small for a pair, or ``jitter`` so
            large that patches may overlap.
    """
    check_integers(1, patch=patch)
    check_integers(0, gap=gap, jitter=jitter)
    if 2 * jitter > gap:
        raise ValueError(f"jitter must be at most half the gap, got gap {gap}, jitter {jitter}")
    check_images(images, 2 * patch + gap + 2 * jitter)
    check_generator(generator, images.device)
    count, device = len(images), images.device
    labels = torch.randint(len(DIRECTIONS), (count,), generator=generator, device=device)
    directions = torch.tensor(DIRECTIONS, device=device)[labels]  # (N, 2)

    sides = torch.tensor(images.shape[2:], device=device)
    span = (patch + gap) * directions
    lowest = jitter - span.clamp(max=0)
    highest = sides - patch - jitter - span.clamp(min=0)
    center = random_integers(generator, lowest, highest, count, 2)
    places = torch.stack([center, center + span], 1)  # (N, pair, 2)
    places = places + random_integers(generator, -jitter, jitter, count, 2, 2)
    patches = cut(images, places[..., 0], places[..., 1], patch)
    return patches[:, 0], patches[:, 1], labels


def drop_colors(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Keep one random channel of each patch, so that chromatic aberration gives nothing away.

    The other two become Gaussian noise with a hundredth of the standard deviation of the channel
    kept, which is standardised to mean 0 and standard deviation 1.

    Args:
        patches: (N, 3, height, width), of bytes or floats.
        generator: source of all random numbers, on the device of ``patches``.

    Returns:
        (N, 3, height, width) float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device.
    """
    check_colors("patches", patches, 3)
    check_generator(generator, patches.device)
    patches = patches.float()
    deviation, mean = torch.std_mean(patches, (2, 3), correction=0, keepdim=True)
    standard = (patches - mean) / deviation.clamp_min(1e-3)
    count, channels = patches.shape[:2]
    kept = torch.randint(channels, (count,), generator=generator, device=patches.device)
    is_kept = (torch.arange(channels, device=patches.device) == kept[:, None])[..., None, None]
    noise = torch.randn(patches.shape, generator=generator, device=patches.device)
    return torch.where(is_kept, standard, noise / 100)
