"""Tile shapes of the Triton kernels, by architecture and depth: a table, no tuning at run time.

Every entry compiles without spills within its architecture's registers and shared memory
(tests/compile). BM × BN is the tile of logits, BD the depth of one product.
"""

from __future__ import annotations

from .._tile_table import Table, Tile, ceil

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

MOST_BLOCKS = 48  # per side, of the forward kernel: its partial sums stay linear in n


def rows_per_block(tile: Tile, size: int) -> int:
    """Side of the forward kernel's square blocks."""
    step = max(tile.BM, tile.BN)
    return step * max(1, ceil(ceil(size, step), MOST_BLOCKS))
