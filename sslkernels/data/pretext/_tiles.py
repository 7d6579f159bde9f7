"""Square crops of images, batched."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import FLOATS, INTEGERS, check_have_values, shown


def check_images(images: Tensor, least: int = 1) -> None:
    """Raise unless ``images`` are (N, C, height, width) with sides of at least ``least``."""
    check_tensor("images", images)
    if images.ndim != 4 or min(images.shape[2:]) < least:
        raise ValueError(
            f"images must be (N, C, height, width) of at least {least} pixels a side, "
            f"got {tuple(images.shape)}"
        )


def check_tensor(name: str, x: Tensor) -> None:
    """Raise unless this is a tensor of real numbers with values."""
    if not isinstance(x, Tensor) or x.dtype not in (*FLOATS, *INTEGERS, torch.bool):
        raise TypeError(f"{name} must be a tensor of real numbers, got {shown(x)}")
    check_have_values(**{name: x})


def check_colors(name: str, x: Tensor, channels: int) -> None:
    """Raise unless this is (N, channels, height, width)."""
    check_tensor(name, x)
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"{name} must be (N, {channels}, height, width), got {tuple(x.shape)}")


def cut(images: Tensor, tops: Tensor, lefts: Tensor, size: int) -> Tensor:
    """Crops (N, K, C, size, size) of images (N, C, H, W) at positions (N, K) int64."""
    across = torch.arange(size, device=images.device)
    rows, columns = tops[..., None] + across, lefts[..., None] + across  # (N, K, size)
    number = torch.arange(len(images), device=images.device)[:, None, None, None]
    pieces = images.movedim(1, -1)[number, rows[..., :, None], columns[..., None, :]]
    return pieces.movedim(-1, 2)


def random_integers(generator: torch.Generator, low: Tensor | int, high: Tensor | int, *shape: int):
    """Uniform in low..high, both inclusive, broadcast to ``shape``; on the generator's device."""
    uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return (low + uniform * (high - low + 1)).floor().long()
