"""The public function: its contract and its checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import HAS_EXTENSION
from .._arguments import HAS_TRITON, choose
from .images import RaggedImages
from .op import augment_views_op
from .parameters import COUNT

IMPLEMENTATIONS = ("auto", "reference", "cpu", "triton")
INTERPOLATIONS = ("bilinear", "bicubic")
MOST_SIDE = 1 << 14  # pixels of a view, which are counted in 32 bits
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

    Each view has its own parameters. Every step gives whole levels 0 … 255, and those of Pillow
    and torchvision: resizing is antialiased, contrast is about the image's mean grey, hue turns in
    HSV, the blur is a Gaussian of up to 23 taps (README.md has all of it). There is no gradient.

    Args:
        images: (N, H, W, C) uint8 with C 1 or 3, or :class:`RaggedImages`.
        parameters: (V, N, 13) float32 on the device of the images, whose columns
            :class:`Parameters` names; drawn by :func:`sslkernels.data.draw_parameters`. Crops lie
            in their images; on a GPU that is not checked, and what lies outside is not read.
        size: side of the views in pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean, std: C numbers: of values in [0, 1], subtracted and divided by.
        dtype: of the views; float32, bfloat16 or float16.
        channels_last: the memory format of each view.
        impl: ``"auto"`` chooses by device: ``"cpu"`` (C++), ``"triton"``, else ``"reference"``.

    Returns:
        (V, N, C, size, size), so that each view of the batch lies in one piece.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape or device that does not fit, a number out of range, a crop that leaves
            its image, an unknown ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    ragged = _ragged(images)
    _check_parameters(parameters, ragged)
    if not isinstance(size, int):
        raise TypeError(f"size must be an integer, got {size!r}")
    if not 1 <= size <= MOST_SIDE:
        raise ValueError(f"size must be in 1..{MOST_SIDE}, got {size}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {INTERPOLATIONS}, got {interpolation!r}")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != ragged.channels:
            raise ValueError(f"{name} must be {ragged.channels} numbers, got {values!r}")
    if any(x == 0 for x in std):
        raise ValueError(f"std must not have a 0, got {std!r}")
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be float32, bfloat16 or float16, got {dtype}")
    options = size, interpolation, list(map(float, mean)), list(map(float, std))
    impl = _choose(impl, parameters)
    return augment_views_op(*ragged, parameters, *options, dtype, channels_last, impl)


def _ragged(images: Tensor | RaggedImages) -> RaggedImages:
    if isinstance(images, RaggedImages):
        _check_ragged(images)
        return images
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor or RaggedImages, got {type(images)}")
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
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
            raise TypeError(f"images.{name} must be a {dtype} tensor, got {tensor!r}")
        if tensor.device != images.data.device:
            raise ValueError(
                f"images.{name} must be on {images.data.device} like the data, got {tensor.device}"
            )
    count = len(images.offsets)
    if images.data.dim() != 1 or images.offsets.shape != (count,) or count == 0:
        raise ValueError("images must have one piece of data and an offset for each image")
    if images.sizes.shape != (count, 2):
        raise ValueError(f"images.sizes must be ({count}, 2), got {tuple(images.sizes.shape)}")
    if images.channels not in (1, 3):
        raise ValueError(f"images.channels must be 1 or 3, got {images.channels}")


def _check_parameters(parameters: Tensor, images: RaggedImages) -> None:
    if not isinstance(parameters, Tensor) or parameters.dtype != torch.float32:
        kind = parameters.dtype if isinstance(parameters, Tensor) else type(parameters)
        raise TypeError(f"parameters must be a float32 tensor, got {kind}")
    count = len(images.offsets)
    shape = tuple(parameters.shape)
    if len(shape) != 3 or shape[0] == 0 or shape[1:] != (count, COUNT):
        raise ValueError(f"parameters must be (V, {count}, {COUNT}), got {shape}")
    if parameters.device != images.data.device:
        raise ValueError(
            f"parameters must be on {images.data.device} like the images, got {parameters.device}"
        )


def _choose(impl: str, parameters: Tensor) -> str:
    if impl != "auto":
        return choose(impl, IMPLEMENTATIONS, parameters)
    device = parameters.device.type
    if device == "cuda" and HAS_TRITON:
        return "triton"
    return "cpu" if device == "cpu" and HAS_EXTENSION else "reference"
