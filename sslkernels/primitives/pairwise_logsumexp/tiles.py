"""Blocks of the forward kernel; its tiles are those of every kernel over pairs."""

from __future__ import annotations

from .._tile_table import Tile, ceil

MOST_BLOCKS = 48  # per side, of the forward kernel: its partial sums stay linear in n


def rows_per_block(tile: Tile, size: int) -> int:
    """Side of the forward kernel's square blocks."""
    step = max(tile.BM, tile.BN)
    return step * max(1, ceil(ceil(size, step), MOST_BLOCKS))
