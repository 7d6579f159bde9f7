"""Tile shapes of Triton kernels, by architecture and depth: tables, no tuning at run time.

Every entry compiles without spills within its architecture's registers and shared memory
(tests/compile).
"""

from . import sm_80, sm_86, sm_90, sm_100
from .tile import Table, Tile

FORWARD: Table = {
    "sm_80": sm_80.FORWARD,
    "sm_86": sm_86.FORWARD,
    "sm_90": sm_90.FORWARD,
    "sm_100": sm_100.FORWARD,
}
BACKWARD: Table = {
    "sm_80": sm_80.BACKWARD,
    "sm_86": sm_86.BACKWARD,
    "sm_90": sm_90.BACKWARD,
    "sm_100": sm_100.BACKWARD,
}


def narrow(tile: Tile, architecture: str) -> Tile:
    """For kernels that keep more of each pair than those of BACKWARD."""
    rows = min(tile.BM, 64) if architecture == "sm_100" else tile.BM
    stages = 3 if architecture == "sm_90" and tile.BD >= 512 else tile.num_stages
    return tile._replace(BM=rows, BN=min(tile.BN, 32), num_stages=stages)


NARROW: Table = {
    architecture: {
        size: {depth: narrow(tile, architecture) for depth, tile in tiles.items()}
        for size, tiles in by_size.items()
    }
    for architecture, by_size in BACKWARD.items()
}
# of the nearest neighbour, which holds fewer values and affords larger tiles
NEAREST: Table = {
    "sm_80": sm_80.NEAREST,
    "sm_86": sm_86.NEAREST,
    "sm_90": sm_90.NEAREST,
    "sm_100": sm_100.NEAREST,
}
# of C = âᵀ b̂ that never leaves the chip, by bytes per element; BD is a number of samples
PRODUCTS: dict[str, dict[int, Tile]] = {
    "sm_80": sm_80.PRODUCTS,
    "sm_86": sm_86.PRODUCTS,
    "sm_90": sm_90.PRODUCTS,
    "sm_100": sm_100.PRODUCTS,
}

__all__ = ["BACKWARD", "FORWARD", "NARROW", "NEAREST", "PRODUCTS", "Table", "Tile"]
