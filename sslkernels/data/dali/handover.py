"""DALI's outputs as torch tensors that share its memory."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...primitives.augment_views.images import RaggedImages

if TYPE_CHECKING:
    from nvidia.dali.tensors import TensorListCPU, TensorListGPU


def to_ragged(images: TensorListCPU | TensorListGPU) -> RaggedImages:
    """Images of different sizes, in DALI's memory, which lives as long as the tensors.

    Args:
        images: N samples (height, width, channels) uint8.

    Returns:
        Images on the device of ``images``.
    """
    shapes = torch.tensor(images.shape())  # (N, 3)
    lengths = shapes.prod(1)
    offsets = lengths.cumsum(0) - lengths
    data = _bytes_of(images, offsets.tolist(), int(lengths.sum()))
    sizes = shapes[:, :2].contiguous()
    return RaggedImages(data, offsets.to(data.device), sizes.to(data.device), int(shapes[0, 2]))


def to_dense(samples: TensorListCPU | TensorListGPU) -> Tensor:
    """Samples of one shape as one tensor in DALI's memory."""
    return torch.from_dlpack(samples.as_tensor())


def _bytes_of(images: Any, offsets: list[int], length: int) -> Tensor:
    start = images[0].data_ptr()
    if any(images[i].data_ptr() - start != offset for i, offset in enumerate(offsets)):
        return torch.cat([torch.from_dlpack(image).reshape(-1) for image in images])
    if hasattr(images[0], "__cuda_array_interface__"):
        return torch.as_tensor(_CudaBytes(images, start, length))
    memory: Any = (ctypes.c_uint8 * length).from_address(start)
    memory.owner = images
    return torch.from_numpy(np.frombuffer(memory, np.uint8))


class _CudaBytes:
    """GPU memory in the form that torch imports; it lives as long as this object."""

    def __init__(self, owner: TensorListGPU, start: int, length: int):
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": (length,),
            "typestr": "|u1",
            "data": (start, False),
            "version": 3,
        }
