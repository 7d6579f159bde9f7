"""Runs the host side of CUDA code without a device.

Tensors on the device are tensors on torch's meta device, which have shapes, strides and types, but
no values; to Python they appear to be on cuda:0 (``device.py``, ``cuda.py``). Triton's launches go
through its own binder and are recorded instead of run (``launches.py``), as are calls of the CUDA
extension (``extension.py``). Operators run the functions that they register for CUDA, and are
checked against their fakes (``operations.py``). Errors on a device, or waits for it, raise
:class:`Fault`.

Not covered: values, waits within C++ (except in known operators), ``torch.compile``.

It is part of the benchmarks because both the tests and a benchmark on a device use it; the latter
to compile its kernels in advance (``compile.py``).
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
    """Replace torch.cuda, Triton's driver and the extension by stand-ins, permanently."""
    device.install()
    cuda.install()
    launches.install()
    extension.install()
