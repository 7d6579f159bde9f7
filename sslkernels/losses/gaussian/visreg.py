"""VISReg: invariance over views, and centred, unit-variance embeddings of Gaussian shape."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from ..._checks import check_not_negative, check_positive, check_shares
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, gather_rows, ranks_of, scale_gradient
from ...primitives import sliced_wasserstein
from ...primitives._arguments import check_directions
from .._common import Gathering
from .lejepa import all_views, check_projections, invariance
from .sliced import SlicedLoss


def visreg(
    global_proj: Tensor,
    local_proj: Tensor | None,
    directions: Tensor,
    lambda_param: float = 0.9,
    lambda_scale: float = 1.0,
    lambda_shape: float = 1.0,
    lambda_center: float = 1.0,
    eps: float = 1e-4,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """VISReg's loss (Wu et al. 2026, arXiv:2606.02572), as in lightly.

    ``(1 − λ) mean (z − c)² + λ (λ_scale mean (1 − σ)² + λ_shape W + λ_center mean µ²)`` over all
    views z, where c is the mean of an image's global views, µ and σ are the means and biased
    standard deviations of a view's features, and W is :func:`sslkernels.sliced_wasserstein` of
    ``(z − µ) / (σ + eps)``, in which σ is detached.

    Args:
        global_proj: (V_g, N, D) projections of global views, N at least 2.
        local_proj: (V_l, N, D) of local views; None: no local views.
        directions: (D, M), unit vectors in the dtype of the projections.
        lambda_param: λ, from 0 to 1; the paper recommends 0.6 for small data sets.
        lambda_scale, lambda_shape, lambda_center: weights, at least 0.
        eps: added to σ in the denominator, above 0.
        gather: the ranks whose rows are included: the loss of the global batch, whose projections
            every rank then holds. Without it σ and µ are computed on each rank, as in the paper.
        impl: see :func:`sslkernels.sliced_wasserstein`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs). Features that are constant over
        the rows get no gradient from σ.

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_weights(lambda_param, lambda_scale, lambda_shape, lambda_center, eps)
    found = terms(global_proj, local_proj, directions, eps, gather=gather, impl=impl)
    regularizer = lambda_scale * found.scale + lambda_shape * found.shape
    regularizer = regularizer + lambda_center * found.center
    return (1 - lambda_param) * found.invariance + lambda_param * regularizer


class Terms(NamedTuple):
    """The terms of VISReg's loss, without their weights."""

    invariance: Tensor
    scale: Tensor
    shape: Tensor
    center: Tensor


def terms(
    global_proj: Tensor,
    local_proj: Tensor | None,
    directions: Tensor,
    eps: float,
    *,
    gather: Gather | None,
    impl: str,
) -> Terms:
    """The terms of :func:`sslkernels.functional.visreg`."""
    check_projections(global_proj, local_proj)
    check_directions(global_proj, directions)
    if global_proj.shape[1] < 2 and ranks_of(gather) is None:
        raise ValueError(f"global_proj needs at least 2 rows, got {tuple(global_proj.shape)}")
    z = scale_gradient(all_views(global_proj, local_proj), gather)
    apart = invariance(z, len(global_proj), gather)
    if ranks_of(gather) is not None:
        z = gather_rows(z.transpose(0, 1), gather).transpose(0, 1)
    with full_precision(z):
        dtype = accumulation_dtype(z)
        z = z.to(dtype)
        mean = z.mean(1, keepdim=True)
        centered = z - mean
        variance = centered.square().mean(1, keepdim=True)
        # clamped to the smallest normal number, so that the gradient at 0 is finite
        deviation = variance.clamp_min(torch.finfo(dtype).tiny).sqrt()
        scale, center = (1 - deviation).square().mean(), mean.square().mean()
        standardized = centered / (deviation.detach() + eps)
        shape = sliced_wasserstein(standardized, directions.to(dtype), impl=impl)
        return Terms(apart, scale, shape, center)


class VISRegLoss(SlicedLoss):
    """VISReg's loss with new directions at every call.

    Formula, shapes and conventions: :func:`sslkernels.functional.visreg`.

    Args:
        lambda_param: λ, from 0 to 1.
        num_slices: number of directions.
        lambda_scale, lambda_shape, lambda_center: weights, at least 0.
        gather_distributed: compute the loss of the global batch.
        eps: added to standard deviations in the denominator, above 0.
        seed: seed of the directions, which are the same on all ranks, gathered or not.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        global_step: see :class:`sslkernels.losses.SlicedLoss`.
    """

    def __init__(
        self,
        lambda_param: float = 0.9,
        num_slices: int = 4096,
        lambda_scale: float = 1.0,
        lambda_shape: float = 1.0,
        lambda_center: float = 1.0,
        gather_distributed: bool = False,
        eps: float = 1e-4,
        *,
        seed: int = 0,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(num_slices, gather_distributed, seed, **gathering)
        check_weights(lambda_param, lambda_scale, lambda_shape, lambda_center, eps)
        self.lambda_param, self.lambda_scale = lambda_param, lambda_scale
        self.lambda_shape, self.lambda_center = lambda_shape, lambda_center
        self.eps = eps

    def forward(
        self,
        global_proj: Tensor,
        local_proj: Tensor | None = None,
        directions: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of (V_g, N, D) and (V_l, N, D). A call with given directions does not
        advance ``global_step``."""
        check_projections(global_proj, local_proj)
        return visreg(
            global_proj, local_proj, self.draw(global_proj) if directions is None else directions,
            self.lambda_param, self.lambda_scale, self.lambda_shape, self.lambda_center, self.eps,
            gather=self.gather, impl=self.impl,
        )  # fmt: skip


def check_weights(
    lambda_param: float,
    lambda_scale: float,
    lambda_shape: float,
    lambda_center: float,
    eps: float,
) -> None:
    check_shares(lambda_param=lambda_param)
    check_not_negative(
        lambda_scale=lambda_scale, lambda_shape=lambda_shape, lambda_center=lambda_center
    )
    check_positive(eps=eps)
