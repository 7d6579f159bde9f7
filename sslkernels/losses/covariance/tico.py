"""TiCo: invariance, and contrast against a moving average of the covariance."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import check_flags, check_numbers, check_shares, check_tensors
from ..._operator import Differentiable, accumulation_dtype, full_precision
from ...distributed import Gather, scale_gradient, sum_over_ranks
from ...primitives._rows import dot, is_finite, normalize
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings, lasting, mean_loss


def tico_covariance(
    z: Tensor, covariance: Tensor, beta: float = 0.9, *, gather: Gather | None = None
) -> Tensor:
    """``beta C + (1 − beta) ZᵀZ / N``, with the rows of Z normalised; without gradient.

    Rows that are not finite are left out.

    Args:
        z: (N, D) embeddings, normalised here.
        covariance: C, (D, D), from the previous batches; zero at first.
        beta: decay of the moving average, from 0 to 1.
        gather: the ranks whose rows form one batch.

    Returns:
        (D, D) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z=z)
    _check_covariance(covariance, z)
    check_shares(beta=beta)
    with full_precision(z), torch.no_grad():
        z = _unit(z)
        finite = is_finite(z)
        z = z.where(finite[:, None], 0.0)
        scatter = sum_over_ranks(z.T @ z, gather)
        count = sum_over_ranks(finite.sum(dtype=z.dtype), gather)
        covariance = covariance.to(z)
        return torch.where(count > 0, beta * covariance + (1 - beta) / count * scatter, covariance)


def tico(
    z_a: Tensor,
    z_b: Tensor,
    covariance: Tensor,
    rho: float = 8.0,
    *,
    gather: Gather | None = None,
) -> Tensor:
    """Transformation invariance and covariance contrast (Zhu et al. 2022, arXiv:2206.10698).

    ``1 − mean ⟨a_i, b_i⟩ + rho mean a_i C a_iᵀ`` of unit vectors. C has no gradient.

    Args:
        z_a, z_b: (N, D) embeddings of the views, normalised here.
        covariance: C, (D, D), updated with this batch: see
            :func:`sslkernels.functional.tico_covariance`.
        rho: weight of the contrast.
        gather: the ranks over which the means are taken.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    _check_covariance(covariance, z_a)
    check_numbers(rho=rho)
    with full_precision(z_a):
        a, b = (_unit(scale_gradient(z, gather)) for z in (z_a, z_b))
        rows = 1 - dot(a, b) + rho * _QuadraticForm.apply(a, covariance.detach().to(a))
        return mean_loss(rows, z_a, gather)


class TiCoLoss(GatheringLoss):
    """TiCo: constructor, defaults and values of ``lightly.loss.TiCoLoss``.

    Formula: :func:`sslkernels.functional.tico`. The covariance is that of ``z_a``; unlike
    lightly's, it is saved with checkpoints.

    Args:
        beta: decay of the covariance's moving average, from 0 to 1.
        rho: weight of the contrast.
        gather_distributed: compute the covariance over all ranks' rows.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Attributes:
        C: (D, D) buffer, (0, 0) before the first batch.

    Raises:
        ValueError: ``beta`` outside 0 to 1.
    """

    C: Tensor

    def __init__(
        self,
        beta: float = 0.9,
        rho: float = 8.0,
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_shares(beta=beta)
        check_numbers(rho=rho)
        self.beta, self.rho = beta, rho
        self.register_buffer("C", torch.zeros(0, 0))

    def forward(self, z_a: Tensor, z_b: Tensor, update_covariance_matrix: bool = True) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D), N at least 2.

        With ``update_covariance_matrix=False`` the loss uses the covariance updated with this
        batch, but does not keep it.
        """
        check_embeddings(z_a=z_a, z_b=z_b)
        check_batch("TiCoLoss", z_a, self.gather)
        check_flags(update_covariance_matrix=update_covariance_matrix)
        covariance = self.C
        if covariance.numel() == 0:
            covariance = torch.zeros(
                z_a.shape[1], z_a.shape[1], dtype=accumulation_dtype(z_a), device=z_a.device
            )
        covariance = tico_covariance(z_a, covariance, self.beta, gather=self.gather)
        if update_covariance_matrix:
            self.C = lasting(covariance)
        return tico(z_a, z_b, covariance, self.rho, gather=self.gather)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}C")
        if saved is not None and saved.shape != self.C.shape:
            self.C = self.C.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _QuadraticForm(Differentiable):
    """``a_i C a_iᵀ`` for every row, differentiable in a."""

    @staticmethod
    def forward(a: Tensor, covariance: Tensor) -> Tensor:
        return dot(a @ covariance, a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def gradients(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        a, covariance = saved
        with full_precision(a):
            return (a @ (covariance + covariance.T)) * grad[:, None].to(a), None


def _unit(z: Tensor) -> Tensor:
    return normalize(z.to(accumulation_dtype(z)))


def _check_covariance(covariance: Tensor, z: Tensor) -> None:
    check_tensors(covariance=covariance)
    d = z.shape[1]
    if covariance.shape != (d, d):
        raise ValueError(f"covariance must be ({d}, {d}), got {tuple(covariance.shape)}")
