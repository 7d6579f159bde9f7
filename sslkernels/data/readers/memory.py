"""Images that lie in memory, as one tensor."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ..._copy import to_device
from .reader import Batch, Reader


class MemoryReader(Reader):
    """Batches of a tensor of images, on the device where it lies; see ``Reader``.

    Args:
        images: (n, height, width) or (n, height, width, channels) uint8.
        labels: (n,) int64, on the device of ``images``.
        batch_size, seed, rank, world_size: as for ``Reader``.

    Raises:
        TypeError: ``images`` is not uint8.
        ValueError: shapes do not fit, or a number is out of range.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, got {images.dtype}")
        if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
            raise ValueError(
                "images must be (n, height, width) or (n, height, width, channels), and labels "
                f"(n,), got {tuple(images.shape)} and {tuple(labels.shape)}"
            )
        values = labels.cpu().contiguous().numpy().data
        fingerprint = zlib.crc32(values, math.prod(images.shape[1:]))
        super().__init__(
            range(len(images)), fingerprint, batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self.images, self.labels = images, labels

    def _read(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            indices = to_device(self.order.batch(step), self.images.device)
            yield Batch(self.images[indices], self.labels[indices], indices)
