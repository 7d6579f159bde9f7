"""The tile of a kernel."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """BM × BN is the tile of the result, BD the depth of one product."""

    BM: int
    BN: int
    BD: int
    num_warps: int
    num_stages: int

    def arguments(self) -> dict[str, int]:
        return self._asdict()


# [bytes per element]: {largest d: tile}
ByDepth = dict[int, dict[int, Tile]]
# one for each architecture
Table = dict[str, ByDepth]
