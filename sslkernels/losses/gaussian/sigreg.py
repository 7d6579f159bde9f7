"""SIGReg: regularises embeddings towards an isotropic Gaussian along random directions."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_choice, check_integers, check_numbers, check_positive
from ...distributed import Gather, scale_gradient
from ...primitives import Quadrature, sliced_epps_pulley
from ...primitives._arguments import check_samples
from .._common import Gathering
from .sliced import SlicedLoss

REDUCTIONS = ("mean", "sum", "none")


def sigreg(
    z: Tensor,
    directions: Tensor,
    knots: int = 17,
    t_max: float = 3.0,
    *,
    reduction: str = "mean",
    clip_value: float | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """Sketched isotropic Gaussian regularisation (Balestriero and LeCun 2025, arXiv:2511.08544).

    The mean of :func:`sslkernels.sliced_epps_pulley` over directions and sets of samples.

    Args:
        z: (N, D) embeddings, or (…, N, D): views or time steps, each a separate set of N samples.
        directions: (D, M), unit vectors in the dtype of z.
        knots, t_max: of the trapezoidal rule over [0, t_max], whose weights are doubled.
        reduction: ``"mean"``, ``"sum"``, or ``"none"``: (…, M).
        clip_value: statistics below it count as 0.
        gather: the ranks whose rows are included: the loss of the global batch.
        impl: see :func:`sslkernels.sliced_epps_pulley`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_knots(knots, t_max)
    check_reduction(reduction, clip_value)
    statistics = sliced_epps_pulley(
        scale_gradient(z, gather),
        directions,
        Quadrature.trapezoid(2 * knots - 1, t_max),
        gather=gather,
        impl=impl,
    )
    if clip_value is not None:
        statistics = torch.where(statistics < clip_value, 0.0, statistics)
    if reduction == "none":
        return statistics
    return statistics.mean() if reduction == "mean" else statistics.sum()


class SIGRegLoss(SlicedLoss):
    """SIGReg with new directions at every call.

    Formula, shapes and conventions: :func:`sslkernels.functional.sigreg`.

    Args:
        num_slices: number of directions; 256 in the authors' minimal example, 1,024 in lightly and
            stable-pretraining.
        knots, t_max, reduction, clip_value: see :func:`sslkernels.functional.sigreg`.
        gather_distributed: compute the loss of the global batch.
        seed: seed of the directions.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        global_step: see :class:`sslkernels.losses.SlicedLoss`.
    """

    def __init__(
        self,
        num_slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        gather_distributed: bool = False,
        *,
        reduction: str = "mean",
        clip_value: float | None = None,
        seed: int = 0,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(num_slices, gather_distributed, seed, **gathering)
        check_knots(knots, t_max)
        check_reduction(reduction, clip_value)
        self.knots, self.t_max = knots, t_max
        self.reduction, self.clip_value = reduction, clip_value

    def forward(self, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """Return the loss of (…, N, D). A call with given directions (D, M) does not advance
        ``global_step``."""
        check_samples(z)
        return sigreg(
            z, self.draw(z) if directions is None else directions, self.knots, self.t_max,
            reduction=self.reduction, clip_value=self.clip_value, gather=self.gather,
            impl=self.impl,
        )  # fmt: skip


def check_knots(knots: int, t_max: float) -> None:
    check_integers(2, 2048, knots=knots)
    check_positive(t_max=t_max)


def check_reduction(reduction: str, clip_value: float | None) -> None:
    check_choice("reduction", reduction, REDUCTIONS)
    if clip_value is not None:
        check_numbers(clip_value=clip_value)
