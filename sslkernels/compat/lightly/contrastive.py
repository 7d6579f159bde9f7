"""Contrastive losses of lightly, and losses of positive pairs alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ... import losses
from ..._operator import full_precision
from ...distributed import Gather
from ...losses import dcl, moco, negative_cosine_similarity, nt_xent
from ...losses._common import unit
from ..peer import promoted
from ..stand_in import StandIn
from .memory_bank import MemoryBankModule


class SaysIfGathering:
    """lightly's attribute ``gather_distributed``, derived from this package's ``gather``.

    Raises:
        ValueError: gathering is requested, but torch was built without ``torch.distributed``.
    """

    _gather: Gather | None

    @property
    def gather(self) -> Gather | None:
        return self._gather

    @gather.setter
    def gather(self, gather: Gather | None) -> None:
        # a stand-in skips this check: the peer's own constructor has made it
        if gather is not None and not isinstance(self, StandIn) and not dist.is_available():
            raise ValueError("gather_distributed=True needs a torch with torch.distributed")
        self._gather = gather

    @property
    def gather_distributed(self) -> bool:
        return self.gather is not None

    @gather_distributed.setter
    def gather_distributed(self, takes_part: bool) -> None:
        self.gather = (self.gather or Gather()) if takes_part else None


class NTXentLoss(SaysIfGathering, losses.NTXentLoss):
    """``lightly.loss.NTXentLoss``: :class:`sslkernels.NTXentLoss` with its memory bank.

    ``out1`` is enqueued whenever ``out0`` requires a gradient, in evaluation mode too.
    """

    memory_bank: MemoryBankModule  # type: ignore[assignment]

    def __init__(
        self,
        temperature: float = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(temperature, 0, gather_distributed, **options)
        self.memory_bank_size = memory_bank_size
        self.memory_bank = MemoryBankModule(memory_bank_size, gather_distributed)

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        if self.memory_bank.size[0] == 0:
            return nt_xent(
                out0,
                out1,
                self.temperature,
                convention=self.convention,
                gather=self.gather,
                impl=self.impl,
            )
        _, queue = self.memory_bank(unit(out1.detach()), update=out0.requires_grad)
        return moco(out0, out1, queue.T, self.temperature, gather=self.gather, impl=self.impl)


class DirectCLRLoss(NTXentLoss):
    """``lightly.loss.DirectCLRLoss``: ``NTXentLoss`` on the first ``loss_dim`` features."""

    def __init__(
        self,
        loss_dim: int = 64,
        temperature: float = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(temperature, memory_bank_size, gather_distributed, **options)
        self.loss_dim = loss_dim

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' representations, each (N, …), flattened here."""
        return super().forward(*(x.flatten(1)[:, : self.loss_dim] for x in (out0, out1)))


def negative_mises_fisher_weights(out0: Tensor, out1: Tensor, sigma: float = 0.5) -> Tensor:
    """(N,): ``2 − N softmax_i(⟨out0_i, out1_i⟩ / σ)``, without gradient."""
    with full_precision(out0), torch.no_grad():
        return 2 - len(out0) * torch.softmax((out0 * out1).sum(1) / sigma, 0)


class DCLLoss(SaysIfGathering, losses.DCLLoss):
    """``lightly.loss.DCLLoss``: as :class:`sslkernels.DCLLoss`.

    ``weight_fn`` is called for each direction with the views in that order.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        weight_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(temperature, weight_fn, gather_distributed, **options)

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        weigh = None if self.weight_fn is None else self._mean_weights
        return dcl(out0, out1, self.temperature, weigh, gather=self.gather, impl=self.impl)

    def _mean_weights(self, out0: Tensor, out1: Tensor) -> Tensor:
        weigh: Any = self.weight_fn
        return (weigh(out0, out1) + weigh(out1, out0)) / 2


class DCLWLoss(DCLLoss):
    """``lightly.loss.DCLWLoss``: the weights are computed over each rank's own batch."""

    def __init__(
        self,
        temperature: float = 0.1,
        sigma: float = 0.5,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        weigh = partial(negative_mises_fisher_weights, sigma=sigma)
        super().__init__(temperature, weigh, gather_distributed, **options)


class HypersphereLoss(losses.HypersphereLoss):
    """``lightly.loss.hypersphere_loss.HypersphereLoss``."""

    def __init__(self, t: float = 1.0, lam: float = 1.0, alpha: float = 2.0, **options) -> None:
        super().__init__(t, lam, alpha, **options)

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return super().forward(*promoted(z_a, z_b))


class NegativeCosineSimilarity(losses.NegativeCosineSimilarity):
    """``lightly.loss.NegativeCosineSimilarity``."""


class SymNegCosineSimilarityLoss(nn.Module):
    """``lightly.loss.SymNegCosineSimilarityLoss`` of lightly 1.5, which removed it in 1.6."""

    def __init__(self) -> None:
        super().__init__()
        warnings.warn(
            "SymNegCosineSimilarityLoss is deprecated: use NegativeCosineSimilarity",
            DeprecationWarning,
            stacklevel=2,
        )

    def forward(self, out0: tuple[Tensor, Tensor], out1: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of each view's (projection, prediction)."""
        (z0, p0), (z1, p1) = out0, out1
        first, second = (
            negative_cosine_similarity(p, z.detach(), -1) for p, z in ((p0, z1), (p1, z0))
        )
        return (first + second) / 2
