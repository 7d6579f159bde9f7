"""Checks shared by readers and view functions."""

from __future__ import annotations

from typing import Any

import torch

from .._checks import check_have_values, shown


def check_bytes(name: str, images: Any, *shapes: str) -> None:
    """Check for a non-empty uint8 tensor with values, of one of ``shapes``.

    A shape is written as "n, height, width", and gives the number of dimensions.
    """
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        raise TypeError(f"{name} must be uint8, got {shown(images)}")
    check_have_values(**{name: images})
    if images.ndim not in [shape.count(",") + 1 for shape in shapes] or 0 in images.shape:
        allowed = " or ".join(f"({shape})" for shape in shapes)
        raise ValueError(f"{name} must be {allowed} and not empty, got {tuple(images.shape)}")


def check_generator(generator: Any, device: torch.device) -> None:
    """Check for a generator on ``device``."""
    if not hasattr(generator, "manual_seed") or not hasattr(generator, "device"):
        raise TypeError(f"generator must be a torch.Generator, got {shown(generator)}")
    if generator.device != device:
        raise ValueError(f"generator must be on {device}, got {generator.device}")


def as_device(device: torch.device | str, *, meta: bool = False) -> torch.device:
    """The device of this name; raises TypeError or ValueError if there is none.

    The meta device is refused unless ``meta``.
    """
    if not isinstance(device, torch.device | str):
        raise TypeError(f"device must be a torch.device or its name, got {shown(device)}")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or (found.type == "meta" and not meta):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {str(device)!r}")
    return found
