"""MoCo: queries against the keys of a queue (v1, v2) or of the batch (v3)."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from ..._checks import check_temperature, check_tensors
from ...distributed import Gather
from ...primitives.contrastive import Contrastive, contrastive_loss
from .._common import Gathering, GatheringLoss, as_scalar, check_embeddings, inverse
from .memory_bank import MemoryBank


def moco(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float | Tensor = 0.07,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """InfoNCE with a queue of negatives, the loss of MoCo v1 and v2 (He et al. 2020,
    arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297).

    ``mean_i −log [e^(q_i·k_i/T) / (e^(q_i·k_i/T) + Σ_j e^(q_i·queue_j/T))]``, equal to the
    cross-entropy of the official builder's logits. Queries and keys are normalised here.

    Args:
        query: (N, D).
        key: (N, D), the positives; get a gradient if they require one (MoCo detaches them).
        queue: (K, D) normalised rows, cast to the queries' dtype. No gradient. (The official
            buffer is (D, K): pass its transpose.)
        temperature: T, a number or one-element tensor.
        gather: used for the mean only: every rank holds the same queue.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(query=query, key=key)
    check_temperature(temperature=temperature)
    check_tensors(queue=queue)
    if queue.dim() != 2 or queue.shape[1] != query.shape[1]:
        raise ValueError(
            f"queue must be (K, {query.shape[1]}) like the queries, got {tuple(queue.shape)}"
        )
    problem = Contrastive(
        query,
        key=queue.detach().to(query),
        positive=key,
        scale=inverse(temperature, query),
        unit_key=False,
        gathers_keys=False,
    )
    return contrastive_loss(problem, gather=gather, impl=impl)


class MoCoLoss(GatheringLoss):
    """InfoNCE with a queue as a module: the loss and the queue of ``moco.builder.MoCo``.

    Formula and shapes: :func:`sslkernels.functional.moco`. After the loss is computed, the keys are
    enqueued if the module is in training mode and the queries require a gradient. Any batch size
    works: the queue wraps around. (The reference's names are ``dim``, ``K``, ``T``.)

    Args:
        dim: D, features of an embedding.
        queue_size: number of negatives.
        temperature: T, a number or one-element tensor or parameter.
        gather_distributed: put the keys of all ranks into the queue, as the reference does.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        queue: the :class:`~sslkernels.MemoryBank`, saved with checkpoints. The reference's
            ``queue`` and ``queue_ptr`` can be loaded too.
    """

    def __init__(
        self,
        dim: int = 128,
        queue_size: int = 65536,
        temperature: float | Tensor = 0.07,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        self.temperature = temperature
        self.queue = MemoryBank(queue_size, dim)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also accept the state of ``moco.builder.MoCo``: ``queue`` (D, K) and ``queue_ptr``."""
        if f"{prefix}queue" in state_dict:
            state_dict[f"{prefix}queue.bank"] = state_dict.pop(f"{prefix}queue").T
            state_dict[f"{prefix}queue.bank_ptr"] = state_dict.pop(f"{prefix}queue_ptr")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the loss of queries (N, D) and the momentum encoder's keys (N, D)."""
        check_embeddings(query=query, key=key)
        dim = self.queue.bank.shape[1]
        if query.shape[1] != dim:
            raise ValueError(f"query and key must have dim={dim} features, got {query.shape[1]}")
        key, queue = key.detach(), self.queue.negatives(query.dtype)
        loss = moco(query, key, queue, self.temperature, gather=self.gather, impl=self.impl)
        if self.training and query.requires_grad:
            self.queue.enqueue(key, self.gather)
        return loss


def moco_v3(
    query: Tensor,
    key: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """One direction of the loss of MoCo v3 (Chen et al. 2021, arXiv:2104.02057).

    ``2T · mean_i [log Σ_j e^(q_i·k_j/T) − q_i·k_i/T]`` over the keys of the batch; the factor 2T is
    specific to this paper. Queries and keys are normalised here.

    Args:
        query: (N, D).
        key: (N, D), detached here.
        temperature: T, a number or one-element tensor.
        gather: the ranks whose keys are negatives too.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(query=query, key=key)
    check_temperature(temperature=temperature)
    problem = Contrastive(query, key=key.detach(), scale=inverse(temperature, query), exclude=(0,))
    loss = contrastive_loss(problem, gather=gather, impl=impl)
    return (2 * as_scalar(temperature, query) * loss).to(loss.dtype)


class MoCoV3Loss(GatheringLoss):
    """The loss of MoCo v3 as a module: the sum of both directions, as in its ``moco.builder.MoCo``.

    Args:
        temperature: T, a number or one-element tensor or parameter; 1.0 in the reference's class,
            0.2 in its training script.
        gather_distributed: take the keys of all ranks as negatives, as the reference does.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float | Tensor = 1.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        self.temperature = temperature

    def forward(self, query0: Tensor, query1: Tensor, key0: Tensor, key1: Tensor) -> Tensor:
        """Return the loss of two views' queries and momentum keys, each (N, D)."""
        options: dict[str, Any] = {"gather": self.gather, "impl": self.impl}
        check_embeddings(query0=query0, query1=query1, key0=key0, key1=key1)
        return moco_v3(query0, key1, self.temperature, **options) + moco_v3(
            query1, key0, self.temperature, **options
        )
