"""MSN and PMSN of lightly, whose regulariser can be overridden."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import losses
from ..._operator import accumulation_dtype, full_precision
from ...losses import msn, power_law
from ...losses._common import unit
from .contrastive import SaysIfGathering
from .version import IS_BEFORE_1_6


class MSNLoss(SaysIfGathering, losses.MSNLoss):
    """``lightly.loss.MSNLoss``: the regulariser uses each rank's own anchors."""

    def forward(
        self,
        anchors: Tensor,
        targets: Tensor,
        prototypes: Tensor,
        target_sharpen_temperature: float = 0.25,
    ) -> Tensor:
        """Return the loss of anchors (V · B, D), targets (B, D) and prototypes (K, D)."""
        loss = msn(
            anchors,
            targets,
            prototypes,
            temperature=self.temperature,
            target_sharpen_temperature=target_sharpen_temperature,
            sinkhorn_iterations=self.sinkhorn_iterations,
            regularization_weight=0.0,
            gather=self.gather,
            impl=self.impl,
        )
        if not self.regularization_weight > 0:
            return loss
        with full_precision(anchors):
            dtype = accumulation_dtype(anchors)
            anchors, prototypes = (unit(x.to(dtype)) for x in (anchors, prototypes))
            mean = torch.softmax(anchors @ prototypes.T / self.temperature, 1).mean(0)
            return loss + self.regularization_weight * self.regularization_loss(mean)

    def regularization_loss(self, mean_anchor_probs: Tensor) -> Tensor:
        """The divergence of the anchors' mean assignment (K,) from uniform: ``log K − H``."""
        negative_entropy = torch.xlogy(mean_anchor_probs, mean_anchor_probs).sum()
        return negative_entropy + math.log(len(mean_anchor_probs))


if IS_BEFORE_1_6:

    class MSNLoss(MSNLoss):  # type: ignore[no-redef]
        """``lightly.loss.MSNLoss`` of lightly 1.5, with the old name of a weight."""

        def __init__(
            self,
            temperature: float = 0.1,
            sinkhorn_iterations: int = 3,
            regularization_weight: float = 1.0,
            me_max_weight: float | None = None,
            gather_distributed: bool = False,
            **options,
        ) -> None:
            if me_max_weight is not None:
                warnings.warn(
                    "me_max_weight is deprecated: use regularization_weight",
                    DeprecationWarning,
                    stacklevel=2,
                )
                regularization_weight = me_max_weight
            super().__init__(
                temperature, sinkhorn_iterations, regularization_weight, gather_distributed,
                **options,
            )  # fmt: skip


class PMSNLoss(MSNLoss):
    """``lightly.loss.PMSNLoss``: the prior of the mean assignment is a power law."""

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        regularization_weight: float = 1,
        power_law_exponent: float = 0.25,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(
            temperature, sinkhorn_iterations, regularization_weight,
            gather_distributed=gather_distributed, **options,
        )  # fmt: skip
        self.power_law_exponent = power_law_exponent

    def regularization_loss(self, mean_anchor_probs: Tensor) -> Tensor:
        """The divergence of the anchors' mean assignment (K,) from the power law."""
        size, device = len(mean_anchor_probs), mean_anchor_probs.device
        return _divergence(mean_anchor_probs, power_law(size, self.power_law_exponent, device))


class PMSNCustomLoss(MSNLoss):
    """``lightly.loss.PMSNCustomLoss``: the prior of the mean assignment is the result of
    ``target_distribution``."""

    def __init__(
        self,
        target_distribution: Callable[[Tensor], Tensor],
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        regularization_weight: float = 1,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(
            temperature, sinkhorn_iterations, regularization_weight,
            gather_distributed=gather_distributed, **options,
        )  # fmt: skip
        self.target_distribution = target_distribution

    def regularization_loss(self, mean_anchor_probs: Tensor) -> Tensor:
        """The divergence of the anchors' mean assignment (K,) from the prior."""
        return _divergence(mean_anchor_probs, self.target_distribution(mean_anchor_probs))


def _divergence(mean: Tensor, target: Tensor) -> Tensor:
    return F.kl_div(mean.log(), target.to(mean), reduction="sum")
