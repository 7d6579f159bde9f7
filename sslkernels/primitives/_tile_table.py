"""Tile shapes of Triton kernels, by architecture and depth: tables, no tuning at run time.

Every entry compiles without spills within its architecture's registers and shared memory
(tests/compile). BM × BN is the tile of products, BD the depth of one of them.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    BM: int
    BN: int
    BD: int
    num_warps: int
    num_stages: int

    def arguments(self) -> dict[str, int]:
        return self._asdict()


# [architecture][bytes per element]: {largest d: tile}
Table = dict[str, dict[int, dict[int, Tile]]]

FORWARD: Table = {
    "sm_80": {
        2: {
            64: Tile(128, 64, 64, 4, 3),
            128: Tile(128, 64, 128, 4, 2),
            256: Tile(128, 64, 64, 8, 3),
            512: Tile(128, 64, 64, 8, 3),
        },
        4: {
            64: Tile(128, 64, 64, 4, 3),
            128: Tile(64, 64, 128, 8, 2),
            256: Tile(64, 64, 256, 8, 2),
        },
    },
    "sm_86": {
        2: {
            64: Tile(128, 64, 64, 4, 3),
            128: Tile(128, 64, 128, 4, 2),
            256: Tile(64, 64, 256, 4, 2),
            512: Tile(128, 64, 64, 8, 2),
        },
        4: {
            64: Tile(128, 64, 64, 4, 2),
            128: Tile(64, 64, 128, 4, 2),
            256: Tile(64, 32, 64, 4, 3),
        },
    },
    "sm_90": {
        2: {
            64: Tile(128, 64, 64, 4, 3),
            128: Tile(64, 128, 128, 4, 2),
            256: Tile(128, 64, 256, 8, 2),
            512: Tile(128, 64, 64, 8, 3),
        },
        4: {
            64: Tile(128, 64, 64, 8, 3),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 64, 256, 8, 2),
        },
    },
    "sm_100": {
        2: {
            64: Tile(64, 32, 64, 8, 3),
            128: Tile(64, 32, 128, 8, 2),
            256: Tile(64, 64, 64, 8, 3),
            512: Tile(64, 64, 64, 8, 3),
        },
        4: {
            64: Tile(64, 32, 64, 8, 2),
            128: Tile(64, 32, 128, 8, 2),
            256: Tile(64, 64, 32, 8, 3),
        },
    },
}
BACKWARD: Table = {
    "sm_80": {
        2: {
            64: Tile(128, 64, 64, 8, 3),
            128: Tile(128, 32, 128, 8, 3),
            256: Tile(64, 32, 256, 8, 2),
            512: Tile(64, 32, 512, 8, 2),
        },
        4: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(32, 32, 128, 4, 2),
            256: Tile(32, 32, 256, 8, 2),
        },
    },
    "sm_86": {
        2: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 32, 256, 8, 2),
            512: Tile(32, 32, 512, 8, 2),
        },
        4: {
            64: Tile(128, 32, 64, 8, 2),
            128: Tile(32, 32, 128, 4, 2),
            256: Tile(32, 32, 256, 8, 1),
        },
    },
    "sm_90": {
        2: {
            64: Tile(128, 64, 64, 8, 3),
            128: Tile(128, 64, 128, 8, 3),
            256: Tile(128, 64, 256, 8, 2),
            512: Tile(64, 32, 512, 8, 2),
        },
        4: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 32, 256, 8, 2),
        },
    },
    "sm_100": {
        2: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 64, 256, 8, 2),
            512: Tile(64, 32, 512, 8, 2),
        },
        4: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(128, 32, 128, 8, 2),
            256: Tile(32, 32, 256, 8, 2),
        },
    },
}


# where more is kept of each pair than BACKWARD has registers for
NARROW: Table = {
    arch: {
        size: {depth: tile._replace(BN=min(tile.BN, 32)) for depth, tile in tiles.items()}
        for size, tiles in by_size.items()
    }
    for arch, by_size in BACKWARD.items()
}


def deepest(table: Table, q: Tensor) -> int:
    """The largest d for which the table has a tile of this dtype."""
    return max(table[architecture(q.device)][q.element_size()])


def lookup(table: Table, q: Tensor) -> Tile:
    d, tiles = q.shape[1], table[architecture(q.device)][q.element_size()]
    tile = tiles[min(depth for depth in tiles if depth >= d)]
    return tile._replace(BD=min(tile.BD, max(16, power_of_two(d))))


def columns_per_split(q: Tensor, tile: Tile, m: int, blocks: int | None = None) -> int:
    """Columns that one program of a row block takes: all, unless the rows alone leave SMs idle."""
    blocks = ceil(q.shape[0], tile.BM) if blocks is None else blocks
    splits = ceil(2 * multiprocessors(q.device), blocks)
    return tile.BN * ceil(ceil(m, tile.BN), splits)


@cache
def architecture(device: torch.device) -> str:
    if device.type != "cuda":
        return "sm_80"  # the interpreter: any will do
    major, minor = torch.cuda.get_device_capability(device)
    if major in (9, 10):
        return f"sm_{major}0"
    return "sm_80" if (major, minor) in ((8, 0), (8, 7), (11, 0)) else "sm_86"


@cache
def multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count


def ceil(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(x: int) -> int:
    """The next one from x on."""
    return 1 << (x - 1).bit_length()
