"""Launches of Triton kernels: bound and specialised by Triton itself, recorded instead of run."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from .cuda import H100, State
from .device import CUDA, on_device
from .faults import Fault
from .recording import Specialisation

TARGET = GPUTarget("cuda", 90, 32)
LARGEST_GRID = (2**31 - 1, 2**16 - 1, 2**16 - 1)

compilations: list[Specialisation] = []
launched: Counter[str] = Counter()  # by name
_kernels: set[JITFunction] = set()


class Driver:
    """A driver for a device of which Triton asks nothing but its target."""

    utils = SimpleNamespace(
        get_device_properties=lambda _: {
            "max_shared_mem": 227 * 1024,
            "multiprocessor_count": H100.multi_processor_count,
        }
    )

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_active_torch_device(self) -> Any:
        return CUDA


class Kernel:
    """Replaces a compiled kernel."""

    packed_metadata = function = None

    def __init__(self, name: str) -> None:
        self.name = name

    def launch_metadata(self, *_: Any) -> None:
        return None

    def run(self, x, y, z, stream, function, metadata, launch_metadata, enter, leave, *arguments):
        for index, argument in enumerate(arguments):
            if isinstance(argument, Tensor) and not on_device(argument):
                raise Fault(f"{self.name}: argument {index} is a pointer to the CPU's memory")
        if not all(0 < size <= most for size, most in zip((x, y, z), LARGEST_GRID, strict=True)):
            raise Fault(f"{self.name}: no device launches a grid of {x} x {y} x {z}")
        launched[self.name] += 1


def record(self: JITFunction, key, signature, device, constexprs, options, attrs, warmup) -> Kernel:
    """Replaces ``JITFunction._do_compile``."""
    known, _, _, backend, _ = self.device_caches[device]
    defaults = backend.parse_options({})
    specialisation = Specialisation.of(self, signature, constexprs, options, defaults, attrs)
    if State.capturing:
        raise Fault(f"{self.fn.__name__} compiles while a graph is captured: {specialisation}")
    compilations.append(specialisation)
    _kernels.add(self)
    known[key] = Kernel(self.fn.__name__)
    return known[key]


def forget() -> None:
    """Clear the caches, so that every kernel is compiled once more."""
    for kernel in _kernels:
        kernel._compiled.clear()
        for known, *_ in kernel.device_caches.values():
            known.clear()


def install() -> None:
    driver.set_active(Driver())
    JITFunction._do_compile = record
