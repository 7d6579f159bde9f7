"""The choice of a kernel's tile, and of the number of programs that share a matrix."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

from ._architectures import (
    BACKWARD,
    DEEP,
    FORWARD,
    PRODUCTS,
    ROWS,
    SLICE_GRADIENT,
    SLICES,
    WEIGHTS,
    Table,
    Tile,
)

__all__ = [
    "BACKWARD",
    "DEEP",
    "FORWARD",
    "PRODUCTS",
    "ROWS",
    "SLICES",
    "SLICE_GRADIENT",
    "WEIGHTS",
    "Table",
    "Tile",
]
# compute capabilities, by the shared memory available to a block
LISTED = {
    (8, 0): "sm_80", (8, 7): "sm_80", (11, 0): "sm_80",
    (8, 6): "sm_86", (8, 9): "sm_86", (12, 0): "sm_86",
    (9, 0): "sm_90", (10, 0): "sm_100",
}  # fmt: skip
# per side, for the log-sum-exp's forward kernel, whose partial sums thus stay linear in n: the 528
# blocks of a triangle are two waves of two blocks on each of 132 multiprocessors
MOST_BLOCKS = 32


def is_deep(table: Table, q: Tensor) -> bool:
    """Whether d is larger than the table covers for this dtype."""
    return q.shape[1] > max(table[architecture(q.device)][q.element_size()])


def lookup(table: Table, q: Tensor) -> Tile:
    if is_deep(table, q):
        return in_pieces(DEEP, q)
    tiles = table[architecture(q.device)][q.element_size()]
    return _narrowed(tiles[min(depth for depth in tiles if depth >= q.shape[1])], q)


def in_pieces(table: dict[str, dict[int, Tile]], q: Tensor) -> Tile:
    """The tile of a kernel that processes embeddings of any width in pieces of BD."""
    return _narrowed(table[architecture(q.device)][q.element_size()], q)


def _narrowed(tile: Tile, q: Tensor) -> Tile:
    return tile._replace(BD=min(tile.BD, max(16, power_of_two(q.shape[1]))))


def rows_per_block(tile: Tile, size: int) -> int:
    """Side of the log-sum-exp forward kernel's square blocks."""
    step = max(tile.BM, tile.BN)
    return step * max(1, ceil(ceil(size, step), MOST_BLOCKS))


def columns_per_split(q: Tensor, tile: Tile, m: int, blocks: int | None = None) -> int:
    """Columns per program of a row block: all, unless the rows alone would leave SMs idle."""
    blocks = ceil(q.shape[0], tile.BM) if blocks is None else blocks
    return tile.BN * ceil(ceil(m, tile.BN), parts(blocks, multiprocessors(q.device)))


@cache
def parts(blocks: int, multiprocessors: int) -> int:
    """The number of splits of the columns for which all programs fill waves of two for each SM."""
    slots = 2 * multiprocessors
    most = 2 * ceil(slots, blocks)
    return min(range(1, most + 1), key=lambda count: ceil(blocks * count, slots) / count)


@cache
def architecture(device: torch.device) -> str:
    """The architecture in the tables; for an unlisted GPU the nearest, with one warning."""
    if device.type != "cuda":
        return "sm_80"  # the interpreter: any
    capability = torch.cuda.get_device_capability(device)
    listed = LISTED.get(capability)
    if listed is not None:
        return listed
    nearest = "sm_100" if capability[0] == 10 else "sm_90" if capability[0] == 9 else "sm_86"
    warnings.warn(
        f"{torch.cuda.get_device_name(device)} has compute capability "
        f"{'.'.join(map(str, capability))}, for which sslkernels has no tiles: it takes those of "
        f"{nearest}, the nearest that it has",
        stacklevel=2,
    )
    return nearest


@cache
def multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count


def ceil(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(x: int) -> int:
    """The smallest power of two that is at least x."""
    return 1 << (x - 1).bit_length()
