"""``sslkernels._C`` with CUDA functions that are recorded instead of run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sslkernels import _ext
from sslkernels.primitives import _arguments

from .device import FIRST_ADDRESS, is_address
from .faults import Fault

called: Counter[str] = Counter()  # by name


class Extension:
    """The CPU functions are the real ones."""

    has_cuda = True

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Callable:
        if not name.startswith("cuda_"):
            return getattr(self._real, name)

        def call(*arguments: Any) -> None:
            for number in _numbers(arguments):
                if number >= FIRST_ADDRESS and not is_address(number):
                    raise Fault(f"{name}: {number:#x} is no address on the device")
            called[name] += 1

        return call

    def cuda_sinkhorn_cluster(self, width: int) -> int:
        """The number of blocks that hold a row, as on an H100."""
        fits = (blocks for blocks in (1, 2, 4, 8) if width <= 4096 * blocks)
        return next(fits, 8 if width <= 131_072 else 16 if width <= 262_144 else 0)


def _numbers(values: Any) -> Iterator[int]:
    for x in values:
        if isinstance(x, (list, tuple)):
            yield from _numbers(x)
        elif isinstance(x, int):
            yield x


def install() -> None:
    _ext._C = Extension(_ext._C)
    _ext.HAS_CUDA_EXTENSION = _arguments.HAS_CUDA_EXTENSION = True
