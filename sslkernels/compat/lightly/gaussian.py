"""Losses of lightly on random projections."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from ...distributed import Gather, rank_of, sum_over_ranks
from ...losses import GatheringLoss, lejepa, lewm, sigreg
from ...losses._common import Gathering
from ...losses.gaussian.visreg import check_weights, terms
from ..peer import promoted
from ..slices import Knots
from .contrastive import SaysIfGathering


class SIGReg(SaysIfGathering, Knots, GatheringLoss):
    """``lightly.loss.SIGReg``: directions come from torch's generator; ranks that gather use those
    of rank 0."""

    def __init__(
        self,
        *,
        knots: int = 17,
        t_max: float = 3.0,
        num_vectors: int = 1024,
        gather_distributed: bool = False,
        **options: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **options)
        for name, value, least in (("knots", knots, 2), ("num_vectors", num_vectors, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if t_max <= 0:
            raise ValueError(f"t_max must be above 0, got {t_max}")
        self.num_vectors = num_vectors
        self.keep_knots(knots, t_max)

    def draw(self, proj: Tensor) -> Tensor:
        """Unit columns (D, M), in the projections' dtype."""
        return drawn(proj, self.num_vectors, self.gather)

    def forward(self, proj: Tensor) -> Tensor:
        """Return the loss of (…, N, D)."""
        knots = self.known_knots()
        return sigreg(proj, self.draw(proj), *knots, gather=self.gather, impl=self.impl)


class LeJEPALoss(SaysIfGathering, GatheringLoss):
    """``lightly.loss.LeJEPALoss``."""

    def __init__(
        self,
        lambda_param: float = 0.05,
        gather_distributed: bool = False,
        sigreg_knots: int = 17,
        sigreg_t_max: float = 3.0,
        sigreg_num_vectors: int = 1024,
        **options: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **options)
        if not 0.0 <= lambda_param <= 1.0:
            raise ValueError(f"lambda_param must be from 0 to 1, got {lambda_param}")
        self.lambda_param = lambda_param
        self.sigreg = SIGReg(
            knots=sigreg_knots, t_max=sigreg_t_max, num_vectors=sigreg_num_vectors,
            gather_distributed=gather_distributed, **options,
        )  # fmt: skip

    def forward(self, *, local_proj: Tensor, global_proj: Tensor) -> Tensor:
        """Return the loss of (V_l, N, D) and (V_g, N, D)."""
        local_proj, global_proj = promoted(local_proj, global_proj)
        knots = self.sigreg.known_knots()
        return lejepa(
            global_proj, local_proj, self.sigreg.draw(global_proj), self.lambda_param,
            *knots, gather=self.sigreg.gather, impl=self.impl,
        )  # fmt: skip


class LeWMLoss(SaysIfGathering, GatheringLoss):
    """``lightly.loss.LeWMLoss``."""

    def __init__(
        self,
        lambda_param: float = 0.1,
        normalize: bool = False,
        gather_distributed: bool = False,
        sigreg_knots: int = 17,
        sigreg_t_max: float = 3.0,
        sigreg_num_vectors: int = 1024,
        **options: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **options)
        if lambda_param < 0.0:
            raise ValueError(f"lambda_param must not be negative, got {lambda_param}")
        self.lambda_param, self.normalize = lambda_param, normalize
        self.sigreg = SIGReg(
            knots=sigreg_knots, t_max=sigreg_t_max, num_vectors=sigreg_num_vectors,
            gather_distributed=gather_distributed, **options,
        )  # fmt: skip

    def forward(self, *, predicted: Tensor, target: Tensor, embeddings: Tensor) -> Tensor:
        """Return the loss of two tensors (B, T, D) and one (B, T', D)."""
        knots = self.sigreg.known_knots()
        return lewm(
            predicted, target, embeddings, self.sigreg.draw(embeddings), self.lambda_param,
            self.normalize, *knots, gather=self.sigreg.gather, impl=self.impl,
        )  # fmt: skip


class VISRegLossComponents(NamedTuple):
    """The loss and its unweighted terms."""

    total: Tensor
    pred: Tensor
    scale: Tensor
    shape: Tensor
    center: Tensor


class VISRegLoss(SaysIfGathering, GatheringLoss):
    """``lightly.loss.VISRegLoss``: each rank draws its own directions, even when gathering."""

    def __init__(
        self,
        lambda_param: float = 0.9,
        num_slices: int = 4096,
        lambda_scale: float = 1.0,
        lambda_shape: float = 1.0,
        lambda_center: float = 1.0,
        gather_distributed: bool = False,
        eps: float = 1e-4,
        **options: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **options)
        check_weights(lambda_param, lambda_scale, lambda_shape, lambda_center, eps)
        if num_slices < 1:
            raise ValueError(f"num_slices must be at least 1, got {num_slices}")
        self.lambda_param, self.num_slices, self.eps = lambda_param, num_slices, eps
        self.lambda_scale, self.lambda_shape = lambda_scale, lambda_shape
        self.lambda_center = lambda_center

    def forward(self, *, local_proj: Tensor, global_proj: Tensor) -> Tensor:
        """Return the loss of (V_l, N, D) and (V_g, N, D)."""
        return self.forward_components(local_proj=local_proj, global_proj=global_proj).total

    def forward_components(
        self, *, local_proj: Tensor, global_proj: Tensor
    ) -> VISRegLossComponents:
        """Return the loss and its terms."""
        local_proj, global_proj = promoted(local_proj, global_proj)
        pred, scale, shape, center = terms(
            global_proj, local_proj, drawn(global_proj, self.num_slices, None), self.eps,
            gather=self.gather, impl=self.impl,
        )  # fmt: skip
        regularizer = self.lambda_scale * scale + self.lambda_shape * shape
        regularizer = regularizer + self.lambda_center * center
        total = (1 - self.lambda_param) * pred + self.lambda_param * regularizer
        return VISRegLossComponents(total, pred, scale, shape, center)


def drawn(z: Tensor, count: int, gather: Gather | None) -> Tensor:
    """Unit columns (D, count) from torch's generator, rank 0's on all ranks; each one advances."""
    with torch.no_grad():
        directions = torch.randn(z.shape[-1], count, device=z.device, dtype=z.dtype)
        if rank_of(gather):
            directions.zero_()
        directions = sum_over_ranks(directions, gather)
        return directions.div_(directions.norm(p=2, dim=0))
