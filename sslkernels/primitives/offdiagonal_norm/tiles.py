"""Tiles of C = âᵀ b̂ that never leave the chip; BD is a number of samples."""

from __future__ import annotations

from torch import Tensor

from .._tile_table import Tile, architecture

TILES: dict[str, dict[int, Tile]] = {
    **dict.fromkeys(("sm_80", "sm_86"), {2: Tile(128, 128, 64, 8, 3), 4: Tile(128, 128, 32, 8, 3)}),
    **dict.fromkeys(
        ("sm_90", "sm_100"), {2: Tile(128, 128, 64, 8, 4), 4: Tile(128, 128, 32, 8, 4)}
    ),
}


def tile_of(x: Tensor) -> Tile:
    return TILES[architecture(x.device)][x.element_size()]
