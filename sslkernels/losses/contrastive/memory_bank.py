"""A queue of past embeddings: negatives for MoCo, neighbours for NNCLR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._checks import check_integers, check_tensors
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, all_gather
from ...primitives._rows import is_finite


class MemoryBank(nn.Module):
    """A FIFO queue of ``size`` normalised embeddings, saved with checkpoints.

    Initialised with random directions, as in MoCo (He et al. 2020, arXiv:1911.05722).

    Args:
        size: number of embeddings.
        dim: features of an embedding.

    Attributes:
        bank: (size, dim) float32 buffer.
        bank_ptr: (1,) int64 buffer, the position of the next embedding.

    Raises:
        ValueError: ``size`` or ``dim`` below 1.
    """

    bank: Tensor
    bank_ptr: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        check_integers(1, size=size, dim=dim)
        self.register_buffer("bank", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.int64))

    def negatives(self, dtype: torch.dtype) -> Tensor:
        """A copy of the bank (size, dim): the backward pass reads it after later updates."""
        return self.bank.to(dtype, copy=True)

    @torch.no_grad()
    def enqueue(self, embeddings: Tensor, gather: Gather | None = None) -> None:
        """Normalise embeddings (N, dim) and replace the oldest by them.

        An embedding that is not finite is skipped, and the old one kept. If N exceeds ``size``,
        the last ``size`` are used. With ``gather`` the embeddings of all ranks are enqueued in
        rank order, so that the banks of all ranks stay equal.

        Raises:
            ValueError: embeddings of another shape.
        """
        size, dim = self.bank.shape
        check_tensors(embeddings=embeddings)
        if embeddings.dim() != 2 or embeddings.shape[1] != dim:
            raise ValueError(
                f"the memory bank takes embeddings (N, {dim}), got {tuple(embeddings.shape)}"
            )
        with full_precision(embeddings):
            rows = F.normalize(embeddings.detach().to(accumulation_dtype(embeddings)), dim=1)
        rows = all_gather(rows, gather).to(self.bank.dtype)
        newest = rows[-size:]
        self.bank_ptr.add_(rows.shape[0] - newest.shape[0])
        places = self.bank_ptr + torch.arange(newest.shape[0], device=rows.device)
        places = places % size
        newest = torch.where(is_finite(newest)[:, None], newest, self.bank[places])
        self.bank.index_copy_(0, places, newest)
        self.bank_ptr.add_(newest.shape[0]).remainder_(size)

    def extra_repr(self) -> str:
        return "{}, {}".format(*self.bank.shape)
