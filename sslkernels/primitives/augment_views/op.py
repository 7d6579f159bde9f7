"""The torch operator: schema, fake, and the choice of kernels. No derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._operator import operator, plain
from .images import RaggedImages
from .kernels import kernels
from .parameters import RANGES, Parameters
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
        check(images, parameters)
    out = _empty(parameters, channels, size, dtype, channels_last)
    with plain(parameters):
        if impl == "reference":
            return out.copy_(
                augment_views_reference(images, parameters, size, interpolation, mean, std)
            )
        kernels(impl).augment_views(images, parameters, interpolation, mean, std, out)
    return out


def check(images: RaggedImages, parameters: Tensor) -> None:
    """Raise unless images are inside their memory, crops inside images, and numbers in range.

    No sum or product here exceeds the available memory.
    """
    height, width = images.sizes.unbind(1)
    pixels = images.data.shape[0] // images.channels
    sizes_fit = (images.sizes >= 1).all() and (height <= pixels // width).all()
    if (
        not sizes_fit
        or not (
            (images.offsets >= 0)
            & (images.offsets <= images.data.shape[0] - height * width * images.channels)
        ).all()
    ):
        raise ValueError("images.offsets and images.sizes must describe pieces of images.data")
    if not parameters.isfinite().all():
        raise ValueError("parameters must be finite, got NaN or infinity")
    for name, (least, most) in RANGES.items():
        values = getattr(Parameters.of(parameters), name)
        if not ((values >= least) & (values <= most)).all():
            low, high = values.min().item(), values.max().item()
            raise ValueError(
                f"parameters must have {name} in {least:g} … {most:g}, got {low:g} … {high:g}"
            )
    top, left, rows, columns = parameters[..., :4].long().unbind(-1)
    inside = (top + rows <= height) & (left + columns <= width)
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
