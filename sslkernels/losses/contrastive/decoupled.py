"""Decoupled contrastive learning: NT-Xent without the positive in the denominator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_positive, check_temperature, shown
from ..._operator import full_precision
from ...distributed import Gather, logsumexp_over_ranks, rows_of_all_ranks
from ...primitives._rows import dot
from ...primitives.contrastive import Contrastive, contrastive_loss
from .._common import Gathering, GatheringLoss, check_embeddings, inverse, unit

WeightFunction = Callable[[Tensor, Tensor], Tensor]


def dcl(
    out0: Tensor,
    out1: Tensor,
    temperature: float | Tensor = 0.1,
    weight_fn: WeightFunction | None = None,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022, arXiv:2110.06848, equation 6).

    ``mean_i [log Σ_{j ≠ i, pair(i)} e^(z_i·z_j/T) − w_i z_i·z_pair(i)/T]`` over all 2N rows:
    NT-Xent without the positive in the denominator.

    Args:
        out0: (N, D) embeddings of one view, not necessarily normalised. N at least 2: a single
            pair has no negatives, and its loss is −inf.
        out1: (N, D) embeddings of the other view.
        temperature: T, a number or one-element tensor.
        weight_fn: maps the normalised views to weights w (N,), used in both directions; None
            means 1.
        gather: the ranks whose embeddings are negatives too. ``weight_fn`` is given this rank's
            embeddings only.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(out0=out0, out1=out1)
    check_temperature(temperature=temperature)
    _check_weight_function(weight_fn)
    n = out0.shape[0]
    problem = Contrastive(
        out0,
        out1,
        scale=inverse(temperature, out0),
        offset=n,
        exclude=(-n, 0, n),
        form="decoupled",
        weights=None if weight_fn is None else _weights(weight_fn, out0, out1, gather),
    )
    return contrastive_loss(problem, gather=gather, impl=impl)


def dclw(
    out0: Tensor,
    out1: Tensor,
    temperature: float | Tensor = 0.1,
    sigma: float = 0.5,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """Decoupled contrastive loss with negative von Mises–Fisher weights (equation 7 of the paper).

    ``w_i = 2 − N softmax_i(z_i·z_pair(i)/σ)``, without gradient: pairs that are already close
    count less. With ``gather`` the softmax and N are those of the global batch. Other arguments,
    result and errors as for :func:`sslkernels.functional.dcl`.
    """
    check_positive(sigma=sigma)
    return dcl(
        out0, out1, temperature, partial(_von_mises_fisher, sigma, gather), gather=gather, impl=impl
    )


class DCLLoss(GatheringLoss):
    """Decoupled contrastive loss: constructor, defaults and values of ``lightly.loss.DCLLoss``.

    Formula and shapes: :func:`sslkernels.functional.dcl`.

    Args:
        temperature: T, a number or one-element tensor or parameter.
        weight_fn: weights of the positives, see :func:`sslkernels.functional.dcl`.
        gather_distributed: take the other ranks' embeddings as negatives.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        weight_fn: WeightFunction | None = None,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        _check_weight_function(weight_fn)
        self.temperature = temperature
        self.weight_fn = weight_fn

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return dcl(out0, out1, self.temperature, self.weight_fn, gather=self.gather, impl=self.impl)


class DCLWLoss(DCLLoss):
    """Weighted decoupled loss: constructor, defaults and values of ``lightly.loss.DCLWLoss``.

    Formula: :func:`sslkernels.functional.dclw`. With several ranks the weights are computed over
    the global batch (lightly computes them on each rank separately).

    Args:
        temperature: T, a number or one-element tensor or parameter.
        sigma: σ of the weights, above 0.
        gather_distributed: take the other ranks' embeddings as negatives.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``sigma`` is not above 0.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        sigma: float = 0.5,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(temperature, None, gather_distributed, **gathering)
        check_positive(sigma=sigma)
        self.sigma = sigma

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return dclw(out0, out1, self.temperature, self.sigma, gather=self.gather, impl=self.impl)


def _check_weight_function(weight_fn: WeightFunction | None) -> None:
    if weight_fn is not None and not callable(weight_fn):
        raise TypeError(f"weight_fn must be a function or None, got {shown(weight_fn)}")


def _von_mises_fisher(sigma: float, gather: Gather | None, z0: Tensor, z1: Tensor) -> Tensor:
    scores = dot(z0.detach(), z1.detach()) / sigma
    count = rows_of_all_ranks(scores, gather)
    return 2 - count * torch.exp(scores - logsumexp_over_ranks(scores, gather))


def _weights(
    weight_fn: WeightFunction, out0: Tensor, out1: Tensor, gather: Gather | None
) -> Tensor:
    with full_precision(out0):
        weights = weight_fn(unit(out0, gather), unit(out1, gather))
    if not isinstance(weights, Tensor) or weights.shape != out0.shape[:1]:
        raise ValueError(
            f"weight_fn must return one weight per pair, shape ({len(out0)},); got {shown(weights)}"
        )
    return weights.repeat(2)
