"""Plain values that callers give: a TypeError or ValueError of one line where they are none."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch

LARGEST = 2**63 - 1  # what fits torch's int64


def check_whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """``value``, which must be a whole number (of Python or NumPy) from ``least`` to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {kind(value)}")
    number = int(value)
    if not least <= number <= most:
        is_small = most == LARGEST and number < least
        bound = f"at least {least}" if is_small else f"in {least}..{most}"
        raise ValueError(f"{name} must be {bound}, got {value}")
    return number


def check_number(
    name: str, value: Any, *, least: float = -math.inf, above: float | None = None,
    most: float = math.inf,
) -> float:  # fmt: skip
    """``value``, which must be a finite number, not below ``least``, nor at or below ``above``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {kind(value)}")
    number = float(value)
    low = number > above if above is not None else number >= least
    if low and number <= most and abs(number) != math.inf:
        return number
    bounds = [f"above {above:g}"] if above is not None else []
    bounds += [f"at least {least:g}"] if least > -math.inf else []
    bounds += [f"at most {most:g}"] if most < math.inf else ["finite"]
    raise ValueError(f"{name} must be {' and '.join(bounds)}, got {value}")


def check_flag(name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {kind(value)}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of these strings."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {kind(value)}")
    if value not in choices:
        raise ValueError(f"{name} must be {', '.join(choices)}, got {value!r}")


def check_path(name: str, value: Any) -> None:
    """Raise unless ``value`` is a path, or its string."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {kind(value)}")
    if "\0" in str(value):
        raise ValueError(f"{name} must be a path, got {str(value)!r}")


def check_bytes(name: str, images: Any, *shapes: str) -> None:
    """Raise unless ``images`` is a uint8 tensor with values, of one of ``shapes``, none empty.

    A shape is written as "n, height, width", whose names say how many dimensions there are.
    """
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        found = images.dtype if isinstance(images, torch.Tensor) else kind(images)
        raise TypeError(f"{name} must be uint8, got {found}")
    if images.is_meta:
        raise ValueError(f"{name} must have values, got a tensor on the meta device")
    if images.ndim not in [shape.count(",") + 1 for shape in shapes] or 0 in images.shape:
        allowed = " or ".join(f"({shape})" for shape in shapes)
        raise ValueError(f"{name} must be {allowed} and not empty, got {tuple(images.shape)}")


def check_generator(generator: Any, device: torch.device) -> None:
    """Raise unless this is a generator, or what stands for one, of ``device``."""
    if not hasattr(generator, "manual_seed") or not hasattr(generator, "device"):
        raise TypeError(f"generator must be a torch.Generator, got {kind(generator)}")
    if generator.device != device:
        raise ValueError(f"generator must be on {device}, got {generator.device}")


def as_device(device: torch.device | str, *, meta: bool = False) -> torch.device:
    """The device of this name; raises TypeError or ValueError where there is none.

    That of tensors without values is none, but for ``meta``.
    """
    if not isinstance(device, torch.device | str):
        raise TypeError(f"device must be a torch.device or its name, got {kind(device)}")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or (found.type == "meta" and not meta):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {str(device)!r}")
    return found


def kind(value: Any) -> str:
    """What a value is, in a word or two: a tensor's dtype says more than that it is a tensor."""
    dtype = getattr(value, "dtype", None)
    name = type(value).__name__
    return name if dtype is None else f"{name} of {dtype}"
