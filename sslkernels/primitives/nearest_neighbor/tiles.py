"""Tile shapes of the Triton kernel, by architecture and depth: a table, no tuning at run time.

Every entry compiles without spills within its architecture's registers and shared memory
(tests/compile). BM × BN is the tile of products, BD the depth of one product.
"""

from __future__ import annotations

from collections.abc import Sequence
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
TILES: dict[str, dict[int, dict[int, Tile]]] = {
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
            64: Tile(128, 128, 64, 8, 3),
            128: Tile(128, 128, 128, 8, 3),
            256: Tile(128, 128, 256, 8, 2),
            512: Tile(128, 128, 64, 8, 3),
        },
        4: {
            64: Tile(128, 64, 64, 8, 3),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 64, 256, 8, 2),
        },
    },
    "sm_100": {
        2: {
            64: Tile(128, 64, 64, 8, 3),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(128, 64, 64, 8, 3),
            512: Tile(128, 64, 64, 8, 3),
        },
        4: {
            64: Tile(128, 64, 64, 8, 2),
            128: Tile(128, 64, 128, 8, 2),
            256: Tile(64, 64, 32, 8, 3),
        },
    },
}

DEEPEST = {2: 512, 4: 256}  # bytes per element: largest d
MOST_EXCLUDED = 4  # diagonals that the kernel takes


def obstacle(q: Tensor, topk: int, exclude: Sequence[int]) -> str | None:
    """Why the fused kernel cannot take this problem; None where it can."""
    if topk > 1:
        return f"keeps one neighbour, got topk={topk}"
    if q.dtype == torch.float64:
        return "computes in float32, got float64"
    if q.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != "tf32":
        return "multiplies float32 in TF32, which torch.backends.cuda.matmul does not allow here"
    if q.shape[1] > DEEPEST[q.element_size()]:
        return f"takes d ≤ {DEEPEST[q.element_size()]} in {q.dtype}, got d = {q.shape[1]}"
    if len(exclude) > MOST_EXCLUDED:
        return f"leaves out at most {MOST_EXCLUDED} diagonals, got {len(exclude)}"
    return None


def tile_for(q: Tensor) -> Tile:
    d = q.shape[1]
    tiles = TILES[architecture(q.device)][q.element_size()]
    tile = tiles[min(depth for depth in tiles if depth >= d)]
    return tile._replace(BD=min(tile.BD, max(16, 1 << (d - 1).bit_length())))


def columns_per_split(q: Tensor, tile: Tile, m: int) -> int:
    """Columns that one program of a row block takes: all, unless the rows alone leave SMs idle."""
    splits = _ceil(2 * multiprocessors(q.device), _ceil(q.shape[0], tile.BM))
    return tile.BN * _ceil(_ceil(m, tile.BN), splits)


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


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
