"""MSN and PMSN: masked views predict the prototype assignment of the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import (
    MOST_ITERATIONS,
    check_devices,
    check_integers,
    check_numbers,
    check_positive,
    check_tensors,
    shown,
)
from ..._operator import accumulation_dtype, full_precision
from ...distributed import (
    Gather,
    rows_of_all_ranks,
    scale_gradient,
    sum_over_ranks,
)
from ...primitives.sinkhorn import sinkhorn
from ...primitives.soft_cross_entropy import soft_cross_entropy
from .._common import Gathering, GatheringLoss, mean_loss, unit


def msn(
    anchors: Tensor,
    targets: Tensor,
    prototypes: Tensor,
    *,
    temperature: float = 0.1,
    target_sharpen_temperature: float = 0.25,
    sinkhorn_iterations: int = 3,
    regularization_weight: float = 1.0,
    distribution: Tensor | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """MSN (Assran et al. 2022, arXiv:2204.07141) and PMSN (arXiv:2210.07277).

    The mean over anchors of the cross-entropy between the target's assignment and the anchor's,
    ``softmax(cosine / temperature)`` over prototypes; plus ``regularization_weight`` times the
    divergence of the anchors' mean assignment p̄ from a prior: uniform, ``log K − H(p̄)``, or
    another distribution, ``KL(distribution ‖ p̄)``.

    Args:
        anchors: (V · B, D), V views of each of B images, one view after the other.
        targets: (B, D); detached here.
        prototypes: (K, D), learned. All three are normalised here.
        temperature: of both assignments, above 0.
        target_sharpen_temperature: the target's probabilities are raised to its inverse.
        sinkhorn_iterations: iterations that balance the sharpened targets over the batch; 0: none.
        regularization_weight: of the divergence.
        distribution: (K,), the prior of p̄, summing to 1 (PMSN); None: uniform (MSN).
        gather: the ranks over which targets are balanced, assignments are averaged to p̄ (as in the
            authors' code), and the loss is averaged.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    _check(anchors, targets, prototypes)
    _check_settings(temperature, sinkhorn_iterations, regularization_weight)
    check_positive(target_sharpen_temperature=target_sharpen_temperature)
    if distribution is not None:
        check_tensors(distribution=distribution)
    dtype = accumulation_dtype(anchors)
    with full_precision(anchors):
        anchors, targets, prototypes = (
            unit(scale_gradient(x, gather).to(dtype))
            for x in (anchors, targets.detach(), prototypes)
        )
        logits = anchors @ prototypes.T  # (V · B, K)
        sharp = temperature * target_sharpen_temperature
        with torch.no_grad():
            assignments = F.log_softmax(targets @ prototypes.T / sharp, dim=1)
            center = None
            if sinkhorn_iterations > 0:
                center = sinkhorn(assignments, 1.0, sinkhorn_iterations, gather=gather, impl=impl)
        rows = soft_cross_entropy(
            logits.unflatten(0, (-1, len(targets))),
            assignments[None],
            student_temperature=temperature,
            teacher_temperature=1.0,
            center=center,
            impl=impl,
        )
        loss = mean_loss(rows.flatten(), anchors, gather)
        if regularization_weight:
            total = F.softmax(logits / temperature, dim=1).sum(0)
            mean = sum_over_ranks(total, gather) / rows_of_all_ranks(anchors, gather)
            loss = loss + regularization_weight * _divergence(mean, distribution)
        return loss


def power_law(size: int, exponent: float, device: torch.device | None = None) -> Tensor:
    """(size,): probabilities proportional to ``k^(−exponent)``, k = 1..size; PMSN's prior."""
    check_integers(1, size=size)
    check_numbers(exponent=exponent)
    weights = torch.arange(1, size + 1, dtype=torch.float64, device=device) ** -exponent
    return weights / weights.sum()


class MSNLoss(GatheringLoss):
    """MSN as a module: lightly's constructor, defaults and results.

    Formula and shapes: :func:`sslkernels.functional.msn`.

    Args:
        temperature, sinkhorn_iterations, regularization_weight: see
            :func:`sslkernels.functional.msn`.
        gather_distributed: balance targets and average assignments over all ranks (lightly
            averages the assignments of each rank separately).
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``temperature`` not above 0, or ``sinkhorn_iterations`` below 0.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        regularization_weight: float = 1.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        _check_settings(temperature, sinkhorn_iterations, regularization_weight)
        self.temperature, self.sinkhorn_iterations = temperature, sinkhorn_iterations
        self.regularization_weight = regularization_weight

    def forward(
        self,
        anchors: Tensor,
        targets: Tensor,
        prototypes: Tensor,
        target_sharpen_temperature: float = 0.25,
    ) -> Tensor:
        """Return the loss of anchors (V · B, D), targets (B, D) and prototypes (K, D)."""
        _check(anchors, targets, prototypes)
        return msn(
            anchors,
            targets,
            prototypes,
            temperature=self.temperature,
            target_sharpen_temperature=target_sharpen_temperature,
            sinkhorn_iterations=self.sinkhorn_iterations,
            regularization_weight=self.regularization_weight,
            distribution=self.distribution(prototypes),
            gather=self.gather,
            impl=self.impl,
        )

    def distribution(self, prototypes: Tensor) -> Tensor | None:
        """The prior (K,) of the mean assignment; None: uniform."""
        return None


class PMSNLoss(MSNLoss):
    """PMSN as a module, with a power-law prior: lightly's constructor, defaults and results.

    Args:
        power_law_exponent: of :func:`sslkernels.functional.power_law`.
        temperature, sinkhorn_iterations, regularization_weight, gather_distributed: see
            :class:`sslkernels.MSNLoss`.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        regularization_weight: float = 1.0,
        power_law_exponent: float = 0.25,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(
            temperature, sinkhorn_iterations, regularization_weight, gather_distributed, **gathering
        )
        check_numbers(power_law_exponent=power_law_exponent)
        self.power_law_exponent = power_law_exponent

    def distribution(self, prototypes: Tensor) -> Tensor:
        return power_law(len(prototypes), self.power_law_exponent, prototypes.device)


class PMSNCustomLoss(MSNLoss):
    """PMSN with a custom prior: lightly's constructor and results.

    Args:
        target_distribution: maps a (K,) tensor of probabilities, of which only shape, dtype and
            device should be used, to the prior (K,) of the mean assignment.
        temperature, sinkhorn_iterations, regularization_weight, gather_distributed: see
            :class:`sslkernels.MSNLoss`.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self, target_distribution: Callable[[Tensor], Tensor], *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        if not callable(target_distribution):
            raise TypeError(
                f"target_distribution must be a function, got {shown(target_distribution)}"
            )
        self.target_distribution = target_distribution

    def distribution(self, prototypes: Tensor) -> Tensor:
        count = len(prototypes)
        uniform = prototypes.new_full((count,), 1 / count, dtype=accumulation_dtype(prototypes))
        return self.target_distribution(uniform)


def _divergence(mean: Tensor, distribution: Tensor | None) -> Tensor:
    if distribution is None:
        return math.log(len(mean)) + torch.xlogy(mean, mean).sum()
    if distribution.shape != mean.shape:
        raise ValueError(
            f"distribution must be (K,) = {tuple(mean.shape)}, got {tuple(distribution.shape)}"
        )
    distribution = distribution.detach().to(mean)
    return (torch.xlogy(distribution, distribution) - distribution * mean.log()).sum()


def _check_settings(temperature: float, iterations: int, weight: float) -> None:
    check_positive(temperature=temperature)
    check_integers(0, MOST_ITERATIONS, sinkhorn_iterations=iterations)
    check_numbers(regularization_weight=weight)


def _check(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> None:
    named = {"anchors": anchors, "targets": targets, "prototypes": prototypes}
    check_tensors(**named)
    check_devices(**named)
    if any(x.dim() != 2 or 0 in x.shape or x.shape[1] != anchors.shape[1] for x in named.values()):
        raise ValueError(
            "anchors must be (V B, D), targets (B, D) and prototypes (K, D), got "
            + ", ".join(f"{name} {tuple(x.shape)}" for name, x in named.items())
        )
    if len(anchors) % len(targets):
        raise ValueError(
            f"anchors must be some views of every target, V B for B; "
            f"got {tuple(anchors.shape)} and {tuple(targets.shape)}"
        )
