"""The queue of lightly's losses, which is not saved in checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributed import Gather, all_gather
from .version import IS_BEFORE_1_6


class MemoryBankModule(nn.Module):
    """``lightly.models.modules.memory_bank.MemoryBankModule``.

    Unlike :class:`sslkernels.MemoryBank` it drops the rows of a batch that exceed its end,
    and is not saved.

    Args:
        size: (number of embeddings, D), or 0 for none. lightly 1.5 also accepts a single number of
            embeddings, and takes D from the first batch.
        gather_distributed: enqueue all ranks' embeddings.
        feature_dim_first: return (D, number) instead of (number, D).

    Attributes:
        bank: a buffer, not part of the state dict.
        bank_ptr: a buffer, not part of the state dict.

    Raises:
        ValueError: any other size.
    """

    bank: Tensor
    bank_ptr: Tensor
    size: tuple[int, ...]

    def __init__(
        self,
        size: int | Sequence[int],
        gather_distributed: bool = False,
        feature_dim_first: bool = True,
    ) -> None:
        super().__init__()
        self.size = (size,) if isinstance(size, int) else tuple(size)
        _check_size(size, self.size)
        self.gather_distributed, self.feature_dim_first = gather_distributed, feature_dim_first
        self.register_buffer("bank", torch.empty(self.size), persistent=False)
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.int64), persistent=False)
        if len(self.size) > 1:
            self._fill(self.size)

    def forward(
        self, output: Tensor, labels: Tensor | None = None, update: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``output`` (N, D) and a copy of the bank; then, if ``update``, enqueue it."""
        if self.size[0] == 0:
            return output, None
        if self.bank.dim() == 1:
            self._fill((*self.size, *output.shape[1:]))
        bank = self.bank.clone()
        if update:
            self._enqueue(output.detach())
        return output, bank.transpose(0, -1) if self.feature_dim_first else bank

    @torch.no_grad()
    def _fill(self, size: tuple[int, ...]) -> None:
        self.bank = F.normalize(torch.randn(size).to(self.bank), dim=-1)
        self.bank_ptr.zero_()

    @torch.no_grad()
    def _enqueue(self, batch: Tensor) -> None:
        batch = all_gather(batch, Gather() if self.gather_distributed else None)
        start, size = int(self.bank_ptr), self.size[0]
        batch = batch[: size - start]
        self.bank[start : start + len(batch)] = batch.to(self.bank)
        end = start + len(batch)
        self.bank_ptr.fill_(0 if end == size else end)


def _check_size(given: int | Sequence[int], size: tuple[int, ...]) -> None:
    if any(x < 0 for x in size):
        raise ValueError(f"the size of a memory bank must not be negative, got {given}")
    if isinstance(given, int) and given > 0 and IS_BEFORE_1_6:
        warnings.warn(
            f"memory bank size {given} does not say the features' dimension; ({given}, D) does",
            UserWarning,
            stacklevel=4,
        )
    elif size != (0,) and len(size) != 2 and not IS_BEFORE_1_6:
        raise ValueError(
            f"the size of a memory bank must be 0 or (number of embeddings, D), got {given}"
        )
