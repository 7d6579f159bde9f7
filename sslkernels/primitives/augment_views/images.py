"""A batch of images of different sizes in one piece of memory, as decoders yield them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._copy import to_device


class RaggedImages(NamedTuple):
    """N images (height, width, channels) of bytes, one after the other.

    Attributes:
        data: (bytes,) uint8.
        offsets: (N,) int64, where each image begins in ``data``.
        sizes: (N, 2) int64, height and width of each, on the device of ``data``.
        channels: 1 or 3, of all of them.
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
        """The same on another device; the host waits for a copy to a CUDA device if told to."""
        copy = to_device if non_blocking else Tensor.to
        data, offsets, sizes = (copy(x, device) for x in self[:3])
        return RaggedImages(data, offsets, sizes, self.channels)
