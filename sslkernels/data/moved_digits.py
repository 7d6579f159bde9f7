"""Moved digits: each digit scaled, rotated and placed at random on a larger canvas.

Raw pixels and random features classify moved digits poorly, and the move is the augmentation: only
the shape of the digit is invariant to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from .._checks import check_integers, shown
from ._checks import check_bytes, check_generator
from .digits import DigitSplit
from .readers import MemoryReader
from .readers.epoch_order import seeded_generator
from .view_batch import ViewBatch

CANVAS_SIZE = 32
LOCAL_CANVAS_SIZE = 16
LARGEST_CANVAS = 2**16
SCALE_RANGE = (0.7, 1.15)
MAX_ROTATION_DEGREES = 23.0
MOST_VIEWS = 10_000


def move_digits(
    images: Tensor, generator: torch.Generator, canvas_size: int = CANVAS_SIZE
) -> Tensor:
    """Scale, rotate and place each image independently on a black square canvas.

    The scale is uniform in [0.7, 1.15], the rotation uniform in ±23°, and the position uniform over
    the shifts that keep the scaled ink inside the canvas or, along an axis where the ink is larger,
    the canvas inside the ink. Sampling is bilinear. A canvas smaller than the ink thus shows a
    part of it at the same scale: a local crop.

    Args:
        images: (n, height, width) uint8, on the device of ``generator``.
        generator: source of all random numbers; the same state gives the same moves.
        canvas_size: side of the canvas in pixels, at least 1.

    Returns:
        (n, 1, canvas_size, canvas_size) float32 in [0, 1], on the device of ``images``.

    Raises:
        TypeError: ``images`` is not uint8, or another argument has the wrong type.
        ValueError: ``images`` is not of shape (n, height, width), or ``canvas_size`` is not in
            1..65536.
    """
    _check_images(images)
    check_generator(generator, images.device)
    return apply_moves(images, draw_moves(len(images), generator), canvas_size)[0]


def draw_moves(count: int, generator: torch.Generator) -> Tensor:
    """(count, 4) uniform in [-1, 1]: scale, angle, x and y relative to their ranges."""
    return torch.rand(count, 4, generator=generator, device=generator.device) * 2 - 1


def apply_moves(images: Tensor, moves: Tensor, canvas_size: int) -> tuple[Tensor, Tensor]:
    """Move images (n, height, width) uint8 by the moves (n, 4) of ``draw_moves``.

    Returns:
        The canvases, as from ``move_digits``, and the affine maps (n, 2, 3) float32 from canvas
        coordinates, x and y in -1 … 1, to x and y in pixels of the image.
    """
    check_integers(1, LARGEST_CANVAS, canvas_size=canvas_size)
    count, height, width = images.shape
    low, high = SCALE_RANGE
    scale = (low + high) / 2 + moves[:, 0] * (high - low) / 2
    angle = torch.deg2rad(moves[:, 1] * MAX_ROTATION_DEGREES)
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], 1).view(count, 2, 2)
    linear = rotation * scale[:, None, None]  # canvas = linear · image + shift, in pixels

    center, half_size = _ink_box(images)  # (n, 2, 1)
    moved_center, moved_half_size = linear @ center, linear.abs() @ half_size
    room = (canvas_size / 2 - moved_half_size).abs()
    shift = moves[:, 2:, None] * room - moved_center

    # affine_grid takes the inverse map, with -1..1 across the canvas and across the image.
    image_size = torch.tensor([[width], [height]], device=images.device)
    inverse = rotation.mT / scale[:, None, None]
    theta = torch.cat([inverse * canvas_size, -2 * inverse @ shift], 2) / image_size  # (n, 2, 3)
    grid = F.affine_grid(theta, [count, 1, canvas_size, canvas_size], align_corners=False)
    moved = F.grid_sample(images[:, None].float() / 255, grid, align_corners=False)
    middle = torch.tensor([[0.0, 0, 1]], device=images.device)
    return moved, (theta + middle) * image_size / 2


class MovedDigitViews(IterableDataset):
    """Batches of independently moved views of every digit, in a new order each epoch.

    Iterating yields :class:`sslkernels.data.ViewBatch` objects. Their views are (n, 1, 32, 32),
    local ones (n, 1, 16, 16), float32 in [0, 1]; row i of all views shows the same digit, or a
    part of it. Their parameters are (V, n, 2, 3), the maps of ``apply_moves``. Epochs and resuming
    work as in :class:`sslkernels.data.Reader`, and the moves follow from the seed and the step.

    Ranks share a batch: each takes every ``world_size``-th of its digits, moved as in a single
    process with all of them.

    Args:
        digits: kept as a whole, and moved on their device.
        batch_size: digits per batch, of all ranks together.
        seed: of the order and of the moves.
        whole_views: number of views of the whole digit.
        local_views: number of smaller views of a part of the digit, after the others.
        rank, world_size: this process's rank, and the number of ranks.

    Raises:
        TypeError: images are not uint8, or an argument is not an integer.
        ValueError: images are not of shape (n, height, width), a number is out of range, or the
            batch size is not divisible by the number of ranks.
    """

    def __init__(
        self,
        digits: DigitSplit,
        batch_size: int,
        *,
        seed: int = 0,
        whole_views: int = 2,
        local_views: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if not isinstance(digits, tuple) or len(digits) != 2:
            raise TypeError(f"digits must be a DigitSplit, got {shown(digits)}")
        _check_images(digits[0])
        check_integers(1, MOST_VIEWS, whole_views=whole_views)
        check_integers(0, MOST_VIEWS, local_views=local_views)
        check_integers(1, batch_size=batch_size, world_size=world_size)
        check_integers(0, rank=rank)
        if batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"ranks must divide a batch, and rank be below world_size; got batch_size "
                f"{batch_size}, rank {rank}, world_size {world_size}"
            )
        self.reader = MemoryReader(*digits, batch_size, seed=seed)
        self.canvas_sizes = [CANVAS_SIZE] * whole_views + [LOCAL_CANVAS_SIZE] * local_views
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.reader)

    def __iter__(self) -> Iterator[ViewBatch]:
        for batch in self.reader:
            seed, step = self.reader.order.seed, self.reader.step - 1
            generator = seeded_generator(seed, step, device=batch.labels.device)
            share = slice(self.rank, None, self.world_size)
            images, labels, indices = (x[share] for x in batch)
            views, maps = [], []
            for size in self.canvas_sizes:
                moves = draw_moves(len(batch.labels), generator)
                view, to_image = apply_moves(images, moves[share], size)
                views.append(view)
                maps.append(to_image)
            yield ViewBatch(views, torch.stack(maps), labels, indices)

    def state_dict(self) -> dict[str, Any]:
        """The state for ``load_state_dict``, as plain numbers and strings."""
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from ``state``; raises like ``Reader.load_state_dict``."""
        self.reader.load_state_dict(state)


def _ink_box(images: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half size (n, 2, 1) of the ink, as (x, y) pixels from the image's centre."""
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
    check_bytes("images", images, "n, height, width")
