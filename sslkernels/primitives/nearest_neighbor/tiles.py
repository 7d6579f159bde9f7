"""Tile shapes of the Triton kernel: it holds fewer values than others, and affords larger tiles."""

from __future__ import annotations

from .._tile_table import FORWARD, Table, Tile

TILES: Table = {
    **FORWARD,
    "sm_90": {
        2: {
            64: Tile(128, 128, 64, 8, 3),
            128: Tile(128, 128, 128, 8, 3),
            256: Tile(128, 128, 256, 8, 2),
            512: Tile(128, 128, 64, 8, 3),
        },
        4: FORWARD["sm_90"][4],
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
