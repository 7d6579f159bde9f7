"""Operations that would fail or wait on a device, and their place in the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import sslkernels

PACKAGE = Path(sslkernels.__file__).parent


class Fault(Exception):
    """An operation that would fail on the device, or wait for it."""


class Place(NamedTuple):
    """A function of the package: its file below ``sslkernels/``, and its name in it."""

    file: str
    function: str


def place() -> Place | None:
    """The innermost function of the package that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            function, *_ = frame.f_code.co_qualname.split(".<locals>")
            return Place(path.relative_to(PACKAGE).as_posix(), function)
        frame = frame.f_back
    return None
