"""The choice of implementation for a contrastive loss."""

from __future__ import annotations

from torch import Tensor

from ...distributed import Gather, ranks_of
from .._arguments import IMPLEMENTATIONS, choose
from . import composed
from .kernels import fused_kernels
from .op import fused
from .problem import Contrastive


def contrastive_loss(
    problem: Contrastive, *, gather: Gather | None = None, impl: str = "auto"
) -> Tensor:
    """The mean loss over the queries, a scalar in float32 (float64 for float64 queries).

    Args:
        problem: see :class:`Contrastive`.
        gather: the ranks whose keys are negatives too; the loss is the mean over this rank's
            queries.
        impl: see :func:`sslkernels.pairwise_logsumexp`. If it has one operator for the whole
            loss, gradients are computed together with it, if an input requires one.
    """
    _check(problem)
    chosen = choose(impl, IMPLEMENTATIONS, problem.query)
    # the fused operator becomes the default on a GPU once measured there to be correct and faster
    is_fused = chosen == "cpu" or impl == "triton"
    has_constant_weights = problem.weights is None or not problem.weights.requires_grad
    if (
        is_fused
        and ranks_of(gather) is None
        and has_constant_weights
        and fused_kernels(chosen).takes(problem)
    ):
        return fused(problem, chosen)
    return composed.loss(problem, gather, chosen)


def contrastive_rows(
    problem: Contrastive, *, gather: Gather | None = None, impl: str = "auto"
) -> Tensor:
    """The loss of each query, (n,), in float64. Arguments as for :func:`contrastive_loss`."""
    _check(problem)
    return composed.rows(problem, gather, choose(impl, IMPLEMENTATIONS, problem.query)).rows


def _check(problem: Contrastive) -> None:
    query = problem.query
    for name, x in (("keys", problem.key), ("positives", problem.positive)):
        if x is None:
            continue
        if x.dtype != query.dtype:
            raise TypeError(f"queries and {name} must have one dtype, got {query.dtype}, {x.dtype}")
        if x.device != query.device:
            raise ValueError(
                f"queries and {name} must be on one device, got {query.device} and {x.device}"
            )
