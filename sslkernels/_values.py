"""Plain values that callers give: a TypeError or ValueError of one line where they are none."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch


def check_whole(name: str, value: Any, least: float = 0, most: int | None = None) -> None:
    """Raise unless ``value`` is a whole number (of Python or NumPy) from ``least`` to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {kind(value)}")
    number = int(value)
    if number < least or (most is not None and number > most):
        bound = f"at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be {bound}, got {value}")


def check_number(
    name: str, value: Any, *, least: float = -math.inf, above: float | None = None,
    most: float = math.inf,
) -> None:  # fmt: skip
    """Raise unless ``value`` is a finite number, not below ``least`` nor at or below ``above``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {kind(value)}")
    number = float(value)
    low = number > above if above is not None else number >= least
    if low and number <= most and abs(number) != math.inf:
        return
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


def as_device(device: torch.device | str) -> torch.device:
    """The device of this name; raises TypeError or ValueError where there is none."""
    if not isinstance(device, torch.device | str):
        raise TypeError(f"device must be a torch.device or its name, got {kind(device)}")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}") from None


def kind(value: Any) -> str:
    """What a value is, in a word or two: a tensor's dtype says more than that it is a tensor."""
    dtype = getattr(value, "dtype", None)
    name = type(value).__name__
    return name if dtype is None else f"{name} of {dtype}"
