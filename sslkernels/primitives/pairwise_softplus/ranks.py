"""Keys sharded over ranks: any implementation, block by block; row sums add up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...distributed import Ranks, exchange_blocks
from .kernels import Kernels


class AcrossRanks:
    """``forward`` and ``backward`` of an implementation, over all ranks' keys."""

    def __init__(self, implementation: Kernels, ranks: Ranks):
        self.implementation, self.ranks = implementation, ranks

    def forward(
        self, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]
    ) -> Tensor:
        """Row sums over all keys; ``exclude`` applies to the own block."""
        row = self.implementation.forward(q, k, scale, bias, exclude)

        def add_block(block: Tensor) -> None:
            row.add_(self.implementation.forward(q, block, scale, bias, ()))

        exchange_blocks([k], add_block, self.ranks)
        return row

    def backward(
        self,
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        bias: Tensor,
        exclude: Sequence[int],
        row_grad: Tensor,
        need_q: bool,
        need_k: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Gradients of all ranks' results for this rank's q and k, and its row sums of σ."""
        arguments = (row_grad, need_q, need_k)
        dq, own, row_sigma = self.implementation.backward(q, k, scale, bias, exclude, *arguments)

        def add_block(block: Tensor) -> Tensor | None:
            more, contribution, sigma = self.implementation.backward(
                q, block, scale, bias, (), *arguments
            )
            row_sigma.add_(sigma)
            if dq is not None and more is not None:
                dq.add_(more)
            return contribution

        dk = exchange_blocks([k], add_block, self.ranks, own)
        return dq, dk, row_sigma
