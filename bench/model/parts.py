"""The parts of a prediction: kernels and products, their time, and the share of a roof."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from sslkernels.primitives._tile_table import Tile

from .loops import Clocks
from .machine import Machine

LIBRARY = 620e12  # FLOP per second of a product, of 892e12: published rates of cuBLAS, derated
ROOF = 2 * 2048 * Machine.multiprocessors * Machine.ghz * 1e9  # FLOP per second
DRAM = Machine.dram_bytes * Machine.multiprocessors * Machine.ghz * 1e9  # bytes per second


class Part(NamedTuple):
    """A kernel or a product: milliseconds, and the useful rate of the resource that binds it, the
    tensor cores' FLOPs or other instructions per second."""

    name: str
    ms: float
    flops: float
    detail: str
    roof: float = ROOF

    @property
    def of_roof(self) -> float:
        return self.flops / self.roof / self.ms * 1e3


def seconds_of(clocks: float) -> float:
    return clocks / Machine.ghz / 1e9


def dealt(durations: Iterable[float], slots: int) -> float:
    """Clocks until all programs are done, when each free slot takes the next one."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def grid(
    name: str, durations: list[float], loop: Clocks, flops: float, detail: str, roof: float = ROOF
) -> Part:
    slots = loop.blocks * Machine.multiprocessors
    ms = seconds_of(dealt(durations, slots)) * 1e3
    detail += f"; {loop.blocks} per SM, {len(durations)} programs on {slots} slots"
    return Part(name, ms, flops, detail, roof)


def per_tile(loop: Clocks, tile: Tile) -> str:
    return f"{loop.clocks:.0f} clk per {tile.BM}x{tile.BN} (products {loop.products:.0f})"
