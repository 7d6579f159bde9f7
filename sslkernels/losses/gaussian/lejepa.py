"""LeJEPA: invariance over the views of an image, and isotropic Gaussian embeddings."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_choice, check_devices, check_not_negative, check_shares, check_tensors
from ...distributed import Gather, ranks_of, scale_gradient, share_of_mean
from ...primitives._invariance import weighted_invariance
from .._common import Gathering
from .sigreg import check_knots, sigreg
from .sliced import SlicedLoss

CONVENTIONS = ("lejepa", "stable_pretraining")


def lejepa(
    global_proj: Tensor,
    local_proj: Tensor | None,
    directions: Tensor,
    lambda_param: float = 0.05,
    knots: int = 17,
    t_max: float = 3.0,
    *,
    convention: str = "lejepa",
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """LeJEPA's loss (Balestriero and LeCun 2025, arXiv:2511.08544).

    ``λ SIGReg(z) + (1 − λ) mean (z − c)²`` over all views z, where c is the mean of an image's
    global views. Nothing is detached.

    Args:
        global_proj: (V_g, N, D) projections of global views.
        local_proj: (V_l, N, D) of local views; None: no local views, so the centre is the mean of
            all views, as in the authors' minimal example.
        directions: (D, M), unit vectors in the dtype of the projections.
        lambda_param: λ: 0.05 in lightly, 0.02 in the authors' minimal example.
        knots, t_max: see :func:`sslkernels.functional.sigreg`.
        convention: ``"lejepa"``, as in the authors' code and lightly; or
            ``"stable_pretraining"``, which takes all views as one set of samples and adds
            ``λ SIGReg + mean (z − c)²``.
        gather: the ranks whose rows are included: the loss of the global batch.
        impl: see :func:`sslkernels.sliced_epps_pulley`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape, or an unknown choice.
    """
    check_projections(global_proj, local_proj)
    check_lambda(lambda_param, convention)
    check_knots(knots, t_max)
    z = scale_gradient(all_views(global_proj, local_proj), gather)
    sets = z if convention == "lejepa" else z.flatten(0, 1)
    distance = sigreg(sets, directions, knots, t_max, gather=unscaled(gather), impl=impl)
    weight = 1 - lambda_param if convention == "lejepa" else 1.0
    apart = invariance(z, len(global_proj), gather, weight)
    return torch.add(apart, distance, alpha=lambda_param)


class LeJEPALoss(SlicedLoss):
    """LeJEPA's loss with new directions at every call.

    Formula, shapes and conventions: :func:`sslkernels.functional.lejepa`.

    Args:
        lambda_param: λ, from 0 to 1 (at least 0 with ``convention="stable_pretraining"``).
        gather_distributed: compute the loss of the global batch.
        num_slices, knots, t_max, seed: see :class:`sslkernels.SIGRegLoss`.
        convention: ``"lejepa"`` or ``"stable_pretraining"``.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        global_step: see :class:`sslkernels.losses.SlicedLoss`.
    """

    def __init__(
        self,
        lambda_param: float = 0.05,
        gather_distributed: bool = False,
        num_slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        *,
        convention: str = "lejepa",
        seed: int = 0,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(num_slices, gather_distributed, seed, **gathering)
        check_lambda(lambda_param, convention)
        check_knots(knots, t_max)
        self.lambda_param, self.knots, self.t_max = lambda_param, knots, t_max
        self.convention = convention

    def forward(
        self,
        global_proj: Tensor,
        local_proj: Tensor | None = None,
        directions: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of (V_g, N, D) and (V_l, N, D). A call with given directions does not
        advance ``global_step``."""
        check_projections(global_proj, local_proj)
        return lejepa(
            global_proj, local_proj, self.draw(global_proj) if directions is None else directions,
            self.lambda_param, self.knots, self.t_max, convention=self.convention,
            gather=self.gather, impl=self.impl,
        )  # fmt: skip


def all_views(global_proj: Tensor, local_proj: Tensor | None) -> Tensor:
    """Global views followed by local views."""
    return global_proj if local_proj is None else torch.cat([global_proj, local_proj])


def invariance(z: Tensor, centers: int, gather: Gather | None, weight: float = 1.0) -> Tensor:
    """The weighted mean squared distance of views (V, N, D) to the mean of the first views."""
    loss = weighted_invariance(z, centers, weight)
    if ranks_of(gather) is None:
        return loss
    return share_of_mean(loss * z.numel(), z.numel(), gather)


def unscaled(gather: Gather | None) -> Gather | None:
    """The same ranks, for a term whose embeddings' gradients are already scaled."""
    return None if gather is None else Gather(gather.route, gather.group)


def check_projections(global_proj: Tensor, local_proj: Tensor | None) -> None:
    """Check for views (V, N, D) that differ in V only."""
    views = {"global_proj": global_proj}
    if local_proj is not None:
        views["local_proj"] = local_proj
    check_tensors(**views)
    for name, x in views.items():
        if x.dim() != 3 or 0 in x.shape or x.shape[1:] != global_proj.shape[1:]:
            raise ValueError(
                f"{' and '.join(views)} must be (V, N, D) with one N and D, no dimension of which "
                f"is 0; got {name} {tuple(x.shape)}, global_proj {tuple(global_proj.shape)}"
            )
        if x.dtype != global_proj.dtype:
            raise TypeError(
                f"global_proj and local_proj must have one dtype, got {global_proj.dtype} and "
                f"{x.dtype}"
            )
    check_devices(**views)


def check_lambda(lambda_param: float, convention: str) -> None:
    check_choice("convention", convention, CONVENTIONS)
    if convention == "lejepa":
        check_shares(lambda_param=lambda_param)
    else:
        check_not_negative(lambda_param=lambda_param)
