"""Tile shapes of Triton kernels by architecture and depth: how a table is read."""

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


def fits(table: Table, q: Tensor) -> bool:
    """Whether the table has a tile for this dtype and depth."""
    return q.shape[1] <= max(table[architecture(q.device)][q.element_size()])


def lookup(table: Table, q: Tensor) -> Tile:
    d, tiles = q.shape[1], table[architecture(q.device)][q.element_size()]
    tile = tiles[min(depth for depth in tiles if depth >= d)]
    return tile._replace(BD=min(tile.BD, max(16, 1 << (d - 1).bit_length())))


def columns_per_split(q: Tensor, tile: Tile, m: int) -> int:
    """Columns that one program of a row block takes: all, unless the rows alone leave SMs idle."""
    splits = ceil(2 * multiprocessors(q.device), ceil(q.shape[0], tile.BM))
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
