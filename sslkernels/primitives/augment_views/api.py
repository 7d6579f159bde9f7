"""The public function: its contract and its checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import (
    check_choice,
    check_dense,
    check_flags,
    check_integers,
    check_numbers,
    check_sequence,
    check_tensors,
    shown,
)
from ..._ext import HAS_EXTENSION
from .._arguments import HAS_TRITON, choose
from .images import RaggedImages
from .op import augment_views_op
from .parameters import COUNT, MOST_SIDE

IMPLEMENTATIONS = ("auto", "reference", "cpu", "triton")
INTERPOLATIONS = ("bilinear", "bicubic")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def augment_views(
    images: Tensor | RaggedImages,
    parameters: Tensor,
    *,
    size: int = 224,
    interpolation: str = "bicubic",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    impl: str = "auto",
) -> Tensor:
    """V views of each of N images: crop, resize, flip, jitter, grey, blur, solarize, normalise.

    Each view has its own parameters. Every step rounds to whole levels 0 … 255, with the results of
    Pillow and torchvision: resizing is antialiased, contrast is about the image's mean grey, hue
    is shifted in HSV, the blur is a Gaussian of up to 23 taps (see the README). No gradient.

    Args:
        images: (N, H, W, C) uint8 with C 1 or 3, or :class:`sslkernels.RaggedImages`.
        parameters: (V, N, 13) float32 on the device of the images, with the columns of
            ``Parameters`` in ``augment_views/parameters.py``; drawn by
            :func:`sslkernels.data.draw_parameters`. Crops must be inside their images; this is not
            checked on a GPU, where pixels outside are not read.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean, std: C numbers each, subtracted from values in [0, 1] and divided by.
        dtype: of the views; float32, bfloat16 or float16.
        channels_last: the memory format of each view.
        impl: ``"auto"`` chooses by device: ``"cpu"`` (C++), ``"triton"``, else ``"reference"``.

    Returns:
        (V, N, C, size, size), each view of the batch contiguous.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape or device that does not fit, a number out of range, a crop that exceeds
            its image, an unknown ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    ragged = _ragged(images)
    _check_parameters(parameters, ragged)
    check_integers(1, MOST_SIDE, size=size)
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    check_flags(channels_last=channels_last)
    mean, std = _numbers("mean", mean, ragged.channels), _numbers("std", std, ragged.channels)
    if 0 in std:
        raise ValueError(f"std must not have a 0, got {std}")
    if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
        raise TypeError(f"dtype must be float32, bfloat16 or float16, got {shown(dtype)}")
    options = size, interpolation, mean, std
    impl = _choose(impl, parameters)
    return augment_views_op(*ragged, parameters, *options, dtype, channels_last, impl)


def _numbers(name: str, values: Sequence[float], count: int) -> list[float]:
    """One number for each channel."""
    if isinstance(values, Tensor):
        check_tensors(**{name: values})
    if hasattr(values, "tolist"):
        values = values.tolist()
    check_sequence(name, values, "numbers")
    if len(values) != count:
        raise ValueError(f"{name} must be {count} numbers, got {len(values)}")
    for x in values:
        check_numbers(**{name: x})
    return [float(x) for x in values]


def _ragged(images: Tensor | RaggedImages) -> RaggedImages:
    if isinstance(images, RaggedImages):
        _check_ragged(images)
        return images
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor or RaggedImages, got {shown(images)}")
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.layout is not torch.strided:
        raise TypeError(f"images must be dense, got {images.layout}")
    if images.dim() != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"images must be (N, H, W, C) with C 1 or 3 and nothing empty, "
            f"got {tuple(images.shape)}"
        )
    count, height, width, channels = images.shape
    offsets = torch.arange(count, device=images.device) * (height * width * channels)
    heights, widths = (torch.full((count,), x, device=images.device) for x in (height, width))
    return RaggedImages(images.reshape(-1), offsets, torch.stack([heights, widths], 1), channels)


def _check_ragged(images: RaggedImages) -> None:
    for name, dtype in (("data", torch.uint8), ("offsets", torch.int64), ("sizes", torch.int64)):
        tensor = getattr(images, name)
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            raise TypeError(f"images.{name} must be a {dtype} tensor, got {shown(tensor)}")
        if tensor.device != images.data.device:
            raise ValueError(
                f"images.{name} must be on {images.data.device} like the data, got {tensor.device}"
            )
    count = len(images.offsets)
    if images.data.dim() != 1 or images.offsets.shape != (count,) or count == 0:
        raise ValueError("images must have one piece of data and an offset for each image")
    if images.sizes.shape != (count, 2):
        raise ValueError(f"images.sizes must be ({count}, 2), got {tuple(images.sizes.shape)}")
    if not isinstance(images.channels, int) or images.channels not in (1, 3):
        raise ValueError(f"images.channels must be 1 or 3, got {shown(images.channels)}")
    if images.data.shape[0] < images.channels:
        raise ValueError(f"images.data must hold an image, got {images.data.shape[0]} bytes")


def _check_parameters(parameters: Tensor, images: RaggedImages) -> None:
    if not isinstance(parameters, Tensor) or parameters.dtype != torch.float32:
        raise TypeError(f"parameters must be a float32 tensor, got {shown(parameters)}")
    check_dense(parameters=parameters)
    count = len(images.offsets)
    shape = tuple(parameters.shape)
    if len(shape) != 3 or shape[0] == 0 or shape[1:] != (count, COUNT):
        raise ValueError(f"parameters must be (V, {count}, {COUNT}), got {shape}")
    if parameters.device != images.data.device:
        raise ValueError(
            f"parameters must be on {images.data.device} like the images, got {parameters.device}"
        )


def _choose(impl: str, parameters: Tensor) -> str:
    check_choice("impl", impl, IMPLEMENTATIONS)
    if impl != "auto":
        return choose(impl, IMPLEMENTATIONS, parameters)
    device = parameters.device.type
    if device == "cuda" and HAS_TRITON:
        return "triton"
    return "cpu" if device == "cpu" and HAS_EXTENSION else "reference"
