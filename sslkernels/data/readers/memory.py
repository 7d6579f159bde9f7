"""Images in memory, as one tensor."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

from torch import Tensor

from ..._checks import check_integer_tensors
from ..._copy import to_device
from .._checks import check_bytes
from .reader import Batch, Reader


class MemoryReader(Reader):
    """Batches of a tensor of images, on its device; see :class:`sslkernels.data.Reader`.

    Args:
        images: (n, height, width) or (n, height, width, channels) uint8.
        labels: (n,) int64, on the device of ``images``.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.

    Raises:
        TypeError: ``images`` are not uint8, ``labels`` or a number not integers.
        ValueError: shapes or devices do not fit, or a number is out of range.
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
        check_bytes("images", images, "n, height, width", "n, height, width, channels")
        check_integer_tensors(labels=labels)
        if labels.device != images.device:
            raise ValueError(f"labels must be on {images.device}, got {labels.device}")
        if images.ndim == 4 and images.shape[3] not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels, got {images.shape[3]}")
        if labels.shape != images.shape[:1]:
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
