"""The host side of CUDA code, run where there is no device.

Tensors on the device are tensors on torch's meta device, which have shapes, strides and types, but
no values; Python is told that they are on cuda:0 (``device.py``, ``cuda.py``). Triton's launches go
through its own binder and are recorded instead of run (``launches.py``), as are calls of the CUDA
extension (``extension.py``). Operators run the bodies that they register for CUDA, and are held to
their fakes (``operations.py``). What a device would refuse, or wait for, raises :class:`Fault`.

What stays unseen: values, waits within C++ (but those of known operators), ``torch.compile``.

It lives beside the benchmarks because two need it: the tests, and a benchmark on a device, which
wants its kernels compiled beforehand (``compile.py``).
"""

from __future__ import annotations

from contextlib import ExitStack

from . import cuda, device, extension, launches
from .device import Device
from .faults import Fault
from .operations import Operations

__all__ = ["Device", "Fault", "Operations", "Rehearsal", "install"]


class Rehearsal(ExitStack):
    """A context in which ``"cuda"`` is the device without values."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = Operations()

    def __enter__(self) -> Rehearsal:
        super().__enter__()
        self.enter_context(self.operations)
        self.enter_context(self.operations.device)
        return self


def install() -> None:
    """Put stand-ins in the place of torch.cuda, Triton's driver and the extension, for good."""
    device.install()
    cuda.install()
    launches.install()
    extension.install()
