"""The coding rate of a batch, half a log-determinant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import check_positive
from ..._operator import Differentiable, accumulation_dtype, full_precision
from ...distributed import Gather, gram, rows_of_all_ranks, scale_gradient
from .._common import check_embeddings


def coding_rate(z: Tensor, eps: float = 0.5, *, gather: Gather | None = None) -> Tensor:
    """``R(Z) = ½ logdet(I + D/(N eps) ZᵀZ)`` (Yu et al. 2020, MCR², arXiv:2006.08558).

    One Cholesky factorisation of N × N or D × D, whichever is smaller; its gradient takes one
    inverse and one product. ``eps`` is ε², the squared distortion, as in SimDINO's code.

    Args:
        z: (N, D), not normalised here; usually unit vectors.
        eps: above 0.
        gather: the ranks whose rows are included; the value is the same on every rank.

    Returns:
        A scalar in float32 (float64 for float64 inputs). Usually maximised.

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z=z)
    check_positive(eps=eps)
    with full_precision(z):
        z = scale_gradient(z, gather).to(accumulation_dtype(z))
        scatter = gram(z, gather)
        return _HalfLogdet.apply(scatter, z.shape[1] / (rows_of_all_ranks(z, gather) * eps))[0]


class _HalfLogdet(Differentiable):
    """``½ logdet(I + αG)``."""

    @staticmethod
    def forward(scatter: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        matrix = scatter * alpha
        matrix.diagonal().add_(1)
        root = torch.linalg.cholesky_ex(matrix)[0]  # always positive definite: no check, no sync
        return root.diagonal().log().sum(), root

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(output[1], inputs[1], inputs[0])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def gradients(
        ctx: Any, saved: tuple[Tensor, ...], grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        root, alpha, _ = saved
        return torch.cholesky_inverse(root) * (grad * alpha / 2), None
