"""Stand-ins for the functions of torch.cuda that host code calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._device import DeviceContext

from .device import CUDA, inside

H100 = SimpleNamespace(
    name="H100, rehearsed",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 * 2**30,
    clock_rate=1_755_000,
)


class State:
    """The state set through torch.cuda: whether waiting is an error, and whether a graph is
    captured."""

    sync_debug_mode = "default"
    capturing = False

    @classmethod
    def may_wait(cls) -> bool:
        return cls.sync_debug_mode != "error" and not cls.capturing


class Stream:
    cuda_stream = 1

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def elapsed_time(self, other: Event) -> float:
        return 1.0


class Graph:
    def replay(self) -> None:
        pass


class Generator(torch._C.Generator):
    """A generator on the device, whose numbers are never read."""

    device = CUDA


@contextmanager
def capture(graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
    State.capturing = True
    try:
        yield
    finally:
        State.capturing = False


def install() -> None:
    def set_sync_debug_mode(mode: str) -> None:
        State.sync_debug_mode = mode

    def nothing(*_: Any, **__: Any) -> int:
        return 0

    stand_ins = {
        "get_device_capability": lambda *_: (H100.major, H100.minor),
        "get_device_properties": lambda *_: H100,
        "get_device_name": lambda *_: H100.name,
        "current_stream": lambda *_: Stream(),
        "stream": lambda _: nullcontext(),
        "graph": capture,
        "mem_get_info": lambda *_: (H100.total_memory,) * 2,
        "clock_rate": lambda *_: 1755,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "is_current_stream_capturing": lambda: State.capturing,
        "set_sync_debug_mode": set_sync_debug_mode,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
    }
    for name in (
        "current_device", "synchronize", "empty_cache", "reset_peak_memory_stats",
        "memory_allocated", "max_memory_allocated", "set_rng_state", "_exchange_device",
        "_maybe_exchange_device", "_sleep",
    ):  # fmt: skip
        stand_ins[name] = nothing
    for name, stand_in in stand_ins.items():
        setattr(torch.cuda, name, stand_in)

    generator, context = torch.Generator, DeviceContext.__init__

    def make_generator(device: Any = "cpu") -> torch.Generator:
        return Generator() if torch.device(device).type == "cuda" else generator(device)

    torch.Generator = make_generator
    DeviceContext.__init__ = lambda self, device: context(self, inside(torch.device(device)))
