"""Moved digits: each digit scaled, rotated and put at a random place on a larger canvas.

Raw pixels and random features classify moved digits poorly, and the move itself is the
augmentation: what survives it is the shape of the digit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

CANVAS_SIZE = 32
LOCAL_CANVAS_SIZE = 16
SCALE_RANGE = (0.7, 1.15)
MAX_ROTATION_DEGREES = 23.0


def move_digits(
    images: Tensor, generator: torch.Generator, canvas_size: int = CANVAS_SIZE
) -> Tensor:
    """Scale, rotate and place each image independently on a black square canvas.

    The scale is uniform in [0.7, 1.15], the rotation uniform in ±23°, and the place uniform over
    the shifts that keep the scaled ink inside the canvas or, along an axis where it is the larger,
    the canvas inside the ink. Sampling is bilinear. A canvas smaller than the ink thus shows a
    part of it at the same scale: a local crop.

    Args:
        images: (n, height, width) uint8, on the device of ``generator``.
        generator: source of every random number; the same state gives the same moves.

        canvas_size: side of the canvas in pixels, at least 1.

    Returns:
        (n, 1, canvas_size, canvas_size) float32 in [0, 1], on the device of ``images``.

    Raises:
        TypeError: ``images`` is not uint8.
        ValueError: ``images`` is not of shape (n, height, width), or ``canvas_size`` is below 1.
    """
    _check_images(images)
    if canvas_size < 1:
        raise ValueError(f"canvas_size must be at least 1, got {canvas_size}")
    count, height, width = images.shape
    device = images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) * (high - low) + low

    scale = uniform(*SCALE_RANGE, count)
    angle = torch.deg2rad(uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES, count))
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], 1).view(count, 2, 2)
    linear = rotation * scale[:, None, None]  # canvas = linear · image + shift, in pixels

    center, half_size = _ink_box(images)  # (n, 2, 1)
    moved_center, moved_half_size = linear @ center, linear.abs() @ half_size
    room = (canvas_size / 2 - moved_half_size).abs()
    shift = uniform(-1, 1, count, 2, 1) * room - moved_center

    # affine_grid wants the inverse map, with -1..1 across the canvas and across the image.
    image_size = torch.tensor([[width], [height]], device=device)
    inverse = rotation.mT / scale[:, None, None]
    theta = torch.cat([inverse * canvas_size, -2 * inverse @ shift], 2) / image_size  # (n, 2, 3)
    grid = F.affine_grid(theta, [count, 1, canvas_size, canvas_size], align_corners=False)
    return F.grid_sample(images[:, None].float() / 255, grid, align_corners=False)


class MovedDigitViews:
    """Batches of independently moved views of every digit, in a new order each epoch.

    Iterating once is one epoch and yields ``(view0, view1, *local_views)``, the first two
    (batch_size, 1, 32, 32), local ones (batch_size, 1, 16, 16), float32 in [0, 1]; row i of all
    shows the same digit, or a part of it. The last incomplete batch is dropped. An epoch of fewer
    digits than a batch takes is one batch, in which digits come again, moved anew.

    Args:
        images: (n, height, width) uint8; kept whole, and moved where they lie.
        batch_size: digits per batch.
        generator: source of the order and of the moves, on the device of ``images``.
        local_views: smaller views of a part of the digit, beside the two of the whole.

    Raises:
        TypeError: ``images`` is not uint8.
        ValueError: ``images`` is not of shape (n, height, width) with n at least 1,
            ``batch_size`` is below 1, or ``local_views`` below 0.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        generator: torch.Generator,
        *,
        local_views: int = 0,
    ):
        _check_images(images)
        if batch_size < 1 or len(images) == 0:
            raise ValueError(
                f"batch_size and the number of images must be at least 1, "
                f"got {batch_size} and {len(images)}"
            )
        if local_views < 0:
            raise ValueError(f"local_views must be at least 0, got {local_views}")
        self.images, self.batch_size, self.generator = images, batch_size, generator
        self.canvas_sizes = [CANVAS_SIZE] * 2 + [LOCAL_CANVAS_SIZE] * local_views

    def __len__(self) -> int:
        """Batches per epoch."""
        return max(1, len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        count = len(self.images)
        order = torch.cat(
            [
                torch.randperm(count, generator=self.generator, device=self.images.device)
                for _ in range(-(-self.batch_size // count))
            ]
        )
        for batch in range(len(self)):
            start = batch * self.batch_size
            digits = self.images[order[start : start + self.batch_size]]
            yield tuple(move_digits(digits, self.generator, size) for size in self.canvas_sizes)


def _ink_box(images: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half size (n, 2, 1), as (x, y) pixels from the image's centre, of all ink."""
    ink = images > 0
    centers, half_sizes = [], []
    for dim in (1, 2):  # along x, then along y
        line = ink.any(dim).int()
        size = line.shape[1]
        first, last = line.argmax(1), size - line.flip(1).argmax(1)
        centers.append((first + last - size) / 2)
        half_sizes.append((last - first) / 2)
    return torch.stack(centers, 1)[:, :, None], torch.stack(half_sizes, 1)[:, :, None]


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 3:
        raise ValueError(f"images must be (n, height, width), got shape {tuple(images.shape)}")
