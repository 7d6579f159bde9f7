"""Batched characteristic slicing, eb_jepa's SIGReg of two views."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_numbers
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, scale_gradient, share_of_mean
from ...primitives import Quadrature, sliced_epps_pulley
from .._common import Gathering, check_embeddings
from .lejepa import unscaled
from .sliced import SlicedLoss

TEN_POINTS = Quadrature.trapezoid(10)


def bcs(
    z_a: Tensor,
    z_b: Tensor,
    directions: Tensor,
    lambda_param: float = 10.0,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """SIGReg and the distance of two views, as in eb_jepa's ``BCS``.

    ``mean (z_a − z_b)² + λ [s(z_a) + s(z_b)] / 2``, where s is the mean over directions of
    ``∫ |φ_empirical − φ_normal|² e^(−t²/2) dt`` by the trapezoidal rule with 10 points over
    [−3, 3], without LeJEPA's factor N.

    Args:
        z_a, z_b: (N, D) embeddings of two views.
        directions: (D, M), unit vectors in the dtype of the embeddings.
        lambda_param: λ.
        gather: the ranks whose rows are included: the loss of the global batch.
        impl: see :func:`sslkernels.sliced_epps_pulley`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    check_numbers(lambda_param=lambda_param)
    views = scale_gradient(torch.stack([z_a, z_b]), gather)
    statistics = sliced_epps_pulley(
        views, directions, TEN_POINTS, scaled=False, gather=unscaled(gather), impl=impl
    )
    with full_precision(views):
        a, b = views.to(accumulation_dtype(views)).unbind()
        distance = share_of_mean((a - b).square().sum(), a.numel(), gather)
        return distance + lambda_param * statistics.mean()


class BCSLoss(SlicedLoss):
    """eb_jepa's BCS with new directions at every call.

    Formula and shapes: :func:`sslkernels.functional.bcs`.

    Args:
        num_slices: number of directions.
        lambda_param: λ.
        gather_distributed: compute the loss of the global batch.
        seed: seed of the directions.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        global_step: see :class:`sslkernels.losses.SlicedLoss`.
    """

    def __init__(
        self,
        num_slices: int = 256,
        lambda_param: float = 10.0,
        gather_distributed: bool = False,
        *,
        seed: int = 0,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(num_slices, gather_distributed, seed, **gathering)
        check_numbers(lambda_param=lambda_param)
        self.lambda_param = lambda_param

    def forward(self, z_a: Tensor, z_b: Tensor, directions: Tensor | None = None) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D). A call with given directions does
        not advance ``global_step``."""
        check_embeddings(z_a=z_a, z_b=z_b)
        return bcs(
            z_a, z_b, self.draw(z_a) if directions is None else directions, self.lambda_param,
            gather=self.gather, impl=self.impl,
        )  # fmt: skip
