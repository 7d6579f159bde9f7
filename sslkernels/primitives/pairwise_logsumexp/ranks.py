"""Keys sharded over ranks: any implementation, block by block.

Log-sum-exps of blocks merge exactly; a backward pass needs only the merged ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...distributed import Ranks, exchange_blocks
from .kernels import Kernels
from .tiled import Side


class AcrossRanks:
    """``forward`` and ``backward`` of an implementation, over all ranks' keys."""

    def __init__(self, implementation: Kernels, ranks: Ranks):
        self.implementation, self.ranks = implementation, ranks

    def forward(
        self, q: Tensor, k: Tensor | None, scale: Tensor, exclude: Sequence[int], columns: bool
    ) -> tuple[Tensor, Tensor]:
        """Rows over all keys, columns over all queries; ``exclude`` applies to the own block."""
        row, own = self.implementation.forward(q, k, scale, exclude, columns)

        def add_block(block: Tensor) -> Tensor:
            more, column = self.implementation.forward(q, block, scale, (), columns)
            torch.logaddexp(row, more, out=row)
            return column

        block = [q if k is None else k]
        column = exchange_blocks(block, add_block, self.ranks, own if columns else None, _merge)
        return row, own if column is None else column

    def backward(
        self,
        q: Tensor,
        k: Tensor | None,
        scale: Tensor,
        exclude: Sequence[int],
        row: Side,
        column: Side | None,
        need_q: bool,
        need_k: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of all ranks' results with respect to this rank's q and k."""
        dq, own = self.implementation.backward(q, k, scale, exclude, row, column, need_q, need_k)
        # If k is q, a block comes with its log-sum-exps, and no gradient has to be sent back.
        block_side = row if k is None else column
        block = [q if k is None else k, *(block_side or ())]

        def add_block(block: Tensor, *side: Tensor) -> Tensor | None:
            more, contribution = self.implementation.backward(
                q,
                block,
                scale,
                (),
                row,
                Side(*side) if side else None,
                need_q,
                need_k and k is not None,
            )
            if dq is not None and more is not None:
                dq.add_(more)
            return contribution

        return dq, exchange_blocks(block, add_block, self.ranks, own)


def _merge(a: Tensor, b: Tensor) -> None:
    torch.logaddexp(a, b, out=a)
