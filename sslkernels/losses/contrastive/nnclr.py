"""NNCLR: the positive is the nearest neighbour in a support set of past embeddings."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import check_choice, check_on, check_temperature
from ..._operator import full_precision
from ...distributed import Gather
from ...primitives.nearest_neighbor import nearest_neighbor
from .._common import Gathering, GatheringLoss, check_embeddings, unit
from .info_nce import info_nce
from .memory_bank import MemoryBank
from .nt_xent import nt_xent

CONVENTIONS = ("official", "lightly")


def nnclr(
    neighbors: Tensor,
    predictions: Tensor,
    temperature: float | Tensor = 0.1,
    *,
    convention: str = "official",
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """One direction of NNCLR (Dwibedi et al. 2021, arXiv:2104.14548).

    Each neighbour NN(z_i) is matched to the prediction p_i of the other view among all predictions
    of the batch. Both are normalised here.

    Args:
        neighbors: (N, D), the nearest neighbours of one view's projections; detached here.
        predictions: (N, D), of the other view.
        temperature: T, a number or one-element tensor.
        convention: ``"official"``, as in the paper and solo-learn: an N-way softmax over the
            predictions. ``"lightly"``: NT-Xent between the two, in which neighbours are also
            negatives of each other and predictions are matched to neighbours as well.
        gather: the ranks whose predictions are negatives too.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(neighbors=neighbors, predictions=predictions)
    check_choice("convention", convention, CONVENTIONS)
    options: dict[str, Any] = {"gather": gather, "impl": impl}
    if convention == "lightly":
        return nt_xent(neighbors.detach(), predictions, temperature, **options)
    return info_nce(neighbors.detach(), predictions, temperature=temperature, **options)


class NNCLRLoss(GatheringLoss):
    """NNCLR with its support set: the mean of both directions.

    ``(nnclr(NN(z0), p1) + nnclr(NN(z1), p0)) / 2``; afterwards z0 is enqueued in the support set if
    the module is in training mode and a prediction requires a gradient. Formula and conventions:
    :func:`sslkernels.functional.nnclr`.

    Args:
        dim: D, features of a projection; 256 in solo-learn.
        queue_size: size of the support set; 65,536 in solo-learn and lightly.
        temperature: T, a number or one-element tensor or parameter.
        gather_distributed: take the other ranks' predictions as negatives, and enqueue all ranks'
            projections in the support set.
        convention: ``"official"`` or ``"lightly"``.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        queue: the support set, a :class:`~sslkernels.MemoryBank`, saved with checkpoints.
    """

    def __init__(
        self,
        dim: int = 256,
        queue_size: int = 65536,
        temperature: float | Tensor = 0.1,
        gather_distributed: bool = False,
        *,
        convention: str = "official",
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        check_choice("convention", convention, CONVENTIONS)
        self.temperature = temperature
        self.convention = convention
        self.queue = MemoryBank(queue_size, dim)

    def forward(self, z0: Tensor, z1: Tensor, p0: Tensor, p1: Tensor) -> Tensor:
        """Return the loss of two views' projections and predictions, each (N, D)."""
        options: dict[str, Any] = {
            "convention": self.convention, "gather": self.gather, "impl": self.impl
        }  # fmt: skip
        check_embeddings(z0=z0, z1=z1)
        check_embeddings(p0=p0, p1=p1)
        n0, n1 = self.nearest(torch.cat([z0, z1])).to(p0.dtype).chunk(2)
        loss = (
            nnclr(n0, p1, self.temperature, **options) + nnclr(n1, p0, self.temperature, **options)
        ) / 2
        if self.training and (p0.requires_grad or p1.requires_grad):
            self.queue.enqueue(z0, self.gather)
        return loss

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """The support set's rows nearest to each row of z (N, D) by cosine similarity."""
        if z.shape[1] != self.queue.bank.shape[1]:
            raise ValueError(
                f"z0 and z1 must have dim={self.queue.bank.shape[1]} features, got {z.shape[1]}"
            )
        check_on(self.queue.bank.device, z0=z)
        with full_precision(z):
            _, index = nearest_neighbor(unit(z.to(self.queue.bank.dtype)), self.queue.bank)
        return self.queue.bank[index[:, 0]]
