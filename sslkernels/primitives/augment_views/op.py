"""The operator as torch sees it: schema, fake, and the choice of kernels. No derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._operator import operator, plain
from .images import RaggedImages
from .kernels import kernels
from .parameters import Parameters
from .reference import augment_views_reference


def _augment_views(
    data: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    channels: int,
    parameters: Tensor,
    size: int,
    interpolation: str,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
    channels_last: bool,
    impl: str,
) -> Any:
    images = RaggedImages(data.contiguous(), offsets.contiguous(), sizes.contiguous(), channels)
    parameters = parameters.contiguous()
    if data.device.type == "cpu":
        check_crops(images, parameters)
    out = _empty(parameters, channels, size, dtype, channels_last)
    with plain(parameters):
        if impl == "reference":
            return out.copy_(
                augment_views_reference(images, parameters, size, interpolation, mean, std)
            )
        kernels(impl).augment_views(images, parameters, interpolation, mean, std, out)
    return out


def check_crops(images: RaggedImages, parameters: Tensor) -> None:
    """Raise unless images lie in their memory, crops in their images, and numbers are finite."""
    ends = images.offsets + images.sizes.prod(1) * images.channels
    if (images.sizes < 1).any() or (images.offsets < 0).any() or (ends > len(images.data)).any():
        raise ValueError("images.offsets and images.sizes must describe pieces of images.data")
    if not parameters.isfinite().all():
        raise ValueError("parameters must be finite, got NaN or infinity")
    p = Parameters.of(parameters)
    height, width = images.sizes.unbind(1)
    inside = (p.top >= 0) & (p.left >= 0) & (p.height >= 1) & (p.width >= 1)
    inside &= (p.top + p.height <= height) & (p.left + p.width <= width)
    if not inside.all():
        view, n = (~inside).nonzero()[0].tolist()
        raise ValueError(
            f"crops must lie in their images, got top, left, height and width "
            f"{parameters[view, n, :4].tolist()} in an image of {images.sizes[n].tolist()}"
        )


def _empty(
    parameters: Tensor, channels: int, size: int, dtype: torch.dtype, channels_last: bool
) -> Tensor:
    shape = (*parameters.shape[:2], channels, size, size)
    if not channels_last:
        return parameters.new_empty(shape, dtype=dtype)
    shape = (*parameters.shape[:2], size, size, channels)
    return parameters.new_empty(shape, dtype=dtype).permute(0, 1, 4, 2, 3)


def _fake(
    data: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    channels: int,
    parameters: Tensor,
    size: int,
    interpolation: str,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
    channels_last: bool,
    impl: str,
) -> Any:
    return _empty(parameters, channels, size, dtype, channels_last)


augment_views_op = operator(
    "augment_views(Tensor data, Tensor offsets, Tensor sizes, int channels, Tensor parameters,"
    " int size, str interpolation, float[] mean, float[] std, ScalarType dtype,"
    " bool channels_last, str impl) -> Tensor",
    _augment_views,
    _fake,
)
