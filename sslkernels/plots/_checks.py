"""Checks shared by plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from .._checks import check_have_values, shown


def checked_names(name: str, value: Any, count: int | None = None) -> list[str]:
    """A list of strings, ``count`` of them if given."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a list of strings, got {shown(value)}")
    for one in value:
        if not isinstance(one, str):
            raise TypeError(f"{name} must be a list of strings, got {shown(one)} in it")
    if count is not None and len(value) != count:
        raise ValueError(f"{name} must be {count} strings, got {len(value)}")
    return list(value)


def checked_numbers(name: str, value: Any, count: int | None = None) -> list[float]:
    """Numbers, possibly NaN, from a list, an array or a tensor."""
    if isinstance(value, Tensor):
        check_have_values(**{name: value})
    found = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise TypeError(f"{name} must be a list of numbers, got {shown(value)}")
    for one in found:
        if not isinstance(one, Real) or isinstance(one, bool):
            raise TypeError(f"{name} must be a list of numbers, got {shown(one)} in it")
    if count is not None and len(found) != count:
        raise ValueError(f"{name} must be {count} numbers, got {len(found)}")
    return [float(one) for one in found]


def check_mapping(name: str, value: Any) -> None:
    """Check for a mapping from strings."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping by name, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must be a mapping by name, got {shown(key)} as one")
