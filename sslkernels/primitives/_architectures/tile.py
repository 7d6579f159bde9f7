"""What a tile is."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """BM × BN is the tile of products, BD the depth of one of them."""

    BM: int
    BN: int
    BD: int
    num_warps: int
    num_stages: int

    def arguments(self) -> dict[str, int]:
        return self._asdict()


# [bytes per element]: {largest d: tile}
ByDepth = dict[int, dict[int, Tile]]
# of every architecture
Table = dict[str, ByDepth]
