"""Argument checks of public functions.

Each check takes arguments by name, and raises TypeError or ValueError with the name, the
expectation and the value given. Values on a device are not read.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MOST = 2**31 - 1
MOST_SEED = 2**63 - 1  # the largest int64
MOST_ITERATIONS = 10_000


def check_tensors(**tensors: Any) -> None:
    """Dense tensors of float16, bfloat16, float32 or float64."""
    for name, x in tensors.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {shown(x)}")
        if x.dtype not in FLOATS:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {x.dtype}")
        if x.layout is not torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got one of layout {x.layout}")


def check_dense(**tensors: Tensor) -> None:
    """Tensors that are not sparse."""
    for name, x in tensors.items():
        if x.layout is not torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got one of layout {x.layout}")


def check_integer_tensors(**tensors: Any) -> None:
    """Dense tensors of integers or bool."""
    for name, x in tensors.items():
        if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex():
            raise TypeError(f"{name} must be a tensor of integers, got {shown(x)}")
    check_dense(**tensors)


def check_have_values(**tensors: Tensor) -> None:
    """Dense tensors with values, not on the meta device."""
    check_dense(**tensors)
    for name, x in tensors.items():
        if x.is_meta:
            raise ValueError(f"{name} must have values, got a tensor on the meta device")


def check_devices(**tensors: Tensor) -> None:
    """Tensors on one device."""
    devices = [x.device for x in tensors.values()]
    if any(x != devices[0] for x in devices):
        found = " and ".join(map(str, devices))
        raise ValueError(f"{' and '.join(tensors)} must be on one device, got {found}")


def check_on(device: torch.device, **tensors: Tensor) -> None:
    """Tensors on the same device as the others."""
    for name, x in tensors.items():
        if x.device != device:
            raise ValueError(f"{name} must be on {device} like the other tensors, got {x.device}")


def check_numbers(**values: Any) -> None:
    """Finite numbers within float32's range."""
    for name, value in values.items():
        _check_number(name, value)


def check_positive(**values: Any) -> None:
    """Finite numbers above 0."""
    for name, value in values.items():
        _check_number(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def check_not_negative(**values: Any) -> None:
    """Finite numbers, at least 0."""
    for name, value in values.items():
        _check_number(name, value)
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def check_shares(**values: Any) -> None:
    """Numbers from 0 to 1."""
    check_between(0, 1, **values)


def check_between(least: float, most: float, **values: Any) -> None:
    """Numbers from ``least`` to ``most``."""
    for name, value in values.items():
        _check_number(name, value)
        if not least <= value <= most:
            raise ValueError(f"{name} must be from {least:g} to {most:g}, got {value}")


def check_integers(least: int, most: int = MOST, **values: Any) -> None:
    """Integers from ``least`` to ``most``."""
    for name, value in values.items():
        if not isinstance(value, (int, Integral)) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {shown(value)}")
        if not least <= int(value) <= most:
            limits = (
                f"at least {least}" if most == MOST and value < least else f"in {least}..{most}"
            )
            raise ValueError(f"{name} must be {limits}, got {value}")


def check_flags(**values: Any) -> None:
    """True or False, also as numpy booleans, 0 or 1."""
    for name, value in values.items():
        is_flag = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
        if not is_flag and not (isinstance(value, int) and value in (0, 1)):
            raise TypeError(f"{name} must be True or False, got {shown(value)}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """One of several words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}; got {shown(value)}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_paths(**values: Any) -> None:
    """Paths, as strings or path objects."""
    for name, value in values.items():
        if not isinstance(value, str | os.PathLike):
            raise TypeError(f"{name} must be a path, got {shown(value)}")
        if "\0" in str(value):
            raise ValueError(f"{name} must be a path, got {str(value)!r}")


def check_scalars(**values: Any) -> None:
    """Finite numbers, or floating-point tensors with one element, which are not read."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            _check_number(name, value, " or a floating-point tensor with one element")
        elif value.numel() != 1 or value.dtype not in FLOATS or value.layout is not torch.strided:
            raise ValueError(
                f"{name} must be a number or a floating-point tensor with one element, "
                f"got {shown(value)}"
            )


def check_temperature(**values: Any) -> None:
    """Scalars that are not too close to 0 to divide by."""
    check_scalars(**values)
    for name, value in values.items():
        # A tensor's value is not checked: reading it would synchronise at every step.
        if not isinstance(value, Tensor) and abs(value) < 1e-8:
            raise ValueError(f"{name} must be finite with |T| >= 1e-8, got {value}")


def check_sequence(name: str, value: Any, of: str = "tensors") -> None:
    """A list or tuple."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of {of}, got {shown(value)}")


def shown(value: Any) -> str:
    """The value in one short line."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, str | bytes | bool | Real | complex | torch.dtype | None):
        return repr(value)[:80]
    return f"a {type(value).__name__}"


def _check_number(name: str, value: Any, others: str = "") -> None:
    # inline, because torch.compile(dynamic=True) would turn a global into a variable
    if type(value) is float:  # nearly always
        most = 3e38
    elif not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number{others}, got {shown(value)}")
    else:
        most = 2**62 if isinstance(value, Integral) else 3e38
    if not -most < value < most:
        raise ValueError(f"{name} must be a finite number of float32, got {value}")
