"""For use within operators: a matrix whose rows, or columns, are sharded over ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .blocks import gather_blocks, row_counts
from .collectives import all_reduce
from .gather import Ranks, process_group


class Shares:
    """The number of rows on each rank, and the exchange between shards of rows and of columns.

    Without ranks there is a single shard, the matrix, and nothing is exchanged.
    """

    def __init__(self, x: Tensor, *ranks: Any) -> None:
        self.ranks = Ranks(*ranks) if any(ranks) else None
        self.group = process_group(self.ranks.group) if self.ranks else None
        self.rows = row_counts(x, self.ranks.group) if self.ranks else [len(x)]
        self.rank = dist.get_rank(self.group) if self.ranks else 0
        self.columns = _split(x.shape[1], len(self.rows))
        self.count = sum(self.rows)
        self.rows_per_rank = self.count // len(self.rows)

    def total(self, x: Tensor) -> Tensor:
        """The sum over ranks."""
        return all_reduce(x, "sum", self.ranks) if self.ranks else x

    def to_columns(self, x: Tensor) -> Tensor:
        """From this rank's rows (n, d) to its shard of the columns of all rows (Σ n, d / ranks)."""
        if not self.ranks:
            return x
        blocks = [block.flatten() for block in x.split(self.columns, 1)]
        arrived = self._exchange(torch.cat(blocks), self._by_columns(), self._by_rows())
        return arrived.view(self.count, self.columns[self.rank])

    def to_rows(self, x: Tensor) -> Tensor:
        """The inverse of ``to_columns``."""
        if not self.ranks:
            return x
        arrived = self._exchange(x.flatten(), self._by_rows(), self._by_columns())
        blocks = arrived.split(self._by_columns())
        return torch.cat([block.view(self.rows[self.rank], -1) for block in blocks], 1)

    def all_columns(self, x: Tensor) -> Tensor:
        """All-gather of per-column values, from (d / ranks) to (d)."""
        if not self.ranks:
            return x
        blocks = gather_blocks(x, self.columns, self.ranks.group)
        return torch.cat([b[:size] for b, size in zip(blocks, self.columns, strict=True)])

    def own_columns(self, x: Tensor) -> Tensor:
        """The inverse of ``all_columns``."""
        return x.split(self.columns)[self.rank]

    def _by_rows(self) -> list[int]:
        """The number of entries of this rank's columns on each rank."""
        return [rows * self.columns[self.rank] for rows in self.rows]

    def _by_columns(self) -> list[int]:
        """The number of entries of this rank's rows in each rank's columns."""
        return [self.rows[self.rank] * columns for columns in self.columns]

    def _exchange(self, x: Tensor, sent: list[int], received: list[int]) -> Tensor:
        out = x.new_empty(sum(received))
        dist.all_to_all_single(out, x, received, sent, group=self.group)
        return out


def _split(size: int, parts: int) -> list[int]:
    return [size // parts + (i < size % parts) for i in range(parts)]
