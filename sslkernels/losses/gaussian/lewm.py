"""LeWM: next-embedding prediction, with isotropic Gaussian embeddings at every time step."""

from __future__ import annotations

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor

from ..._checks import check_devices, check_flags, check_not_negative, check_tensors
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, scale_gradient, share_of_mean
from .._common import Gathering
from .sigreg import check_knots, sigreg
from .sliced import SlicedLoss


def lewm(
    predicted: Tensor,
    target: Tensor,
    embeddings: Tensor,
    directions: Tensor,
    lambda_param: float = 0.1,
    normalize: bool = False,
    knots: int = 17,
    t_max: float = 3.0,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """The loss of LeWorldModel (2026, arXiv:2603.19312), as in lightly.

    ``mean (predicted − target)² + λ SIGReg(embeddings)``, with the target detached; each time step
    is a separate set of samples.

    Args:
        predicted: (B, T, D) predicted embeddings, or any shape with B first and D last.
        target: embeddings of the frames, of the same shape; gets no gradient.
        embeddings: (B, T', D) all embeddings of the clips, or (B, …, D), where each index in
            between is a set of B samples.
        directions: (D, M), unit vectors in the dtype of the embeddings.
        lambda_param: λ, at least 0.
        normalize: compare after a layer normalisation of both.
        knots, t_max: see :func:`sslkernels.functional.sigreg`.
        gather: the ranks whose clips are included: the loss of the global batch.
        impl: see :func:`sslkernels.sliced_epps_pulley`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    _check(predicted, target, embeddings)
    check_not_negative(lambda_param=lambda_param)
    check_flags(normalize=normalize)
    check_knots(knots, t_max)
    with full_precision(predicted):
        dtype = accumulation_dtype(predicted)
        x = scale_gradient(predicted, gather).to(dtype)
        y = target.detach().to(dtype)
        if normalize:
            x, y = (F.layer_norm(a, a.shape[-1:]) for a in (x, y))
        error = share_of_mean((x - y).square().sum(), x.numel(), gather)
    sets = embeddings.flatten(1, -2).transpose(0, 1)  # (T', B, D)
    return error + lambda_param * sigreg(sets, directions, knots, t_max, gather=gather, impl=impl)


class LeWMLoss(SlicedLoss):
    """LeWorldModel's loss with new directions at every call.

    Formula, shapes and conventions: :func:`sslkernels.functional.lewm`.

    Args:
        lambda_param: λ, at least 0.
        normalize: compare predictions and targets after a layer normalisation.
        gather_distributed: compute the loss of the global batch.
        num_slices, knots, t_max, seed: see :class:`sslkernels.SIGRegLoss`.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        global_step: see :class:`sslkernels.losses.SlicedLoss`.
    """

    def __init__(
        self,
        lambda_param: float = 0.1,
        normalize: bool = False,
        gather_distributed: bool = False,
        num_slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        *,
        seed: int = 0,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(num_slices, gather_distributed, seed, **gathering)
        check_not_negative(lambda_param=lambda_param)
        check_flags(normalize=normalize)
        check_knots(knots, t_max)
        self.lambda_param, self.normalize = lambda_param, normalize
        self.knots, self.t_max = knots, t_max

    def forward(
        self,
        predicted: Tensor,
        target: Tensor,
        embeddings: Tensor,
        directions: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of two tensors (B, T, D) and one (B, T', D). A call with given directions
        does not advance ``global_step``."""
        _check(predicted, target, embeddings)
        return lewm(
            predicted, target, embeddings,
            self.draw(embeddings) if directions is None else directions, self.lambda_param,
            self.normalize, self.knots, self.t_max, gather=self.gather, impl=self.impl,
        )  # fmt: skip


def _check(predicted: Tensor, target: Tensor, embeddings: Tensor) -> None:
    check_tensors(predicted=predicted, target=target, embeddings=embeddings)
    if predicted.dim() < 2 or 0 in predicted.shape or predicted.shape != target.shape:
        raise ValueError(
            "predicted and target must have the same shape (B, T, D), no dimension of which is 0; "
            f"got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    ends = (predicted.shape[0], predicted.shape[-1])
    if embeddings.dim() < 3 or 0 in embeddings.shape:
        raise ValueError(f"embeddings must be (B, T, D), got {tuple(embeddings.shape)}")
    if (embeddings.shape[0], embeddings.shape[-1]) != ends:
        raise ValueError(
            f"embeddings must be (B, T, D) with the B and D of predicted, {ends[0]} and {ends[1]}; "
            f"got {tuple(embeddings.shape)}"
        )
    check_devices(predicted=predicted, target=target, embeddings=embeddings)
