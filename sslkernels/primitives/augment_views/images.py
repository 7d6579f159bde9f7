"""A batch of images of different sizes in one buffer, as decoders return them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._copy import to_device


class RaggedImages(NamedTuple):
    """N images (height, width, channels) of bytes, one after the other in memory.

    Attributes:
        data: (bytes,) uint8.
        offsets: (N,) int64, the start of each image in ``data``.
        sizes: (N, 2) int64, height and width of each image, on the device of ``data``.
        channels: 1 or 3, the same for all images.
    """

    data: Tensor
    offsets: Tensor
    sizes: Tensor
    channels: int

    @classmethod
    def of(cls, images: Sequence[Tensor]) -> RaggedImages:
        """Copy images (height, width, channels) uint8 into one batch, on their device."""
        device = images[0].device
        lengths = torch.tensor([image.numel() for image in images])
        sizes = torch.tensor([image.shape[:2] for image in images])
        return cls(
            torch.cat([image.reshape(-1) for image in images]),
            (lengths.cumsum(0) - lengths).to(device),
            sizes.to(device),
            images[0].shape[2],
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> RaggedImages:
        """A copy on another device; ``non_blocking=False`` waits for a copy to a CUDA device."""
        copy = to_device if non_blocking else Tensor.to
        data, offsets, sizes = (copy(x, device) for x in self[:3])
        return RaggedImages(data, offsets, sizes, self.channels)
