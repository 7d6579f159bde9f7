"""Losses of lightly on covariances and spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ... import losses
from ..._operator import accumulation_dtype
from ...losses import tico, tico_covariance
from ...losses.covariance.w_mse import Whitening
from ...losses.covariance.w_mse import norm_mse as norm_mse_loss
from ..peer import promoted
from .contrastive import SaysIfGathering


class BarlowTwinsLoss(SaysIfGathering, losses.BarlowTwinsLoss):
    """``lightly.loss.BarlowTwinsLoss``: each rank standardises over its own rows."""

    def __init__(
        self, lambda_param: float = 5e-3, gather_distributed: bool = False, **options
    ) -> None:
        options = {"sync_statistics": False, **options}
        super().__init__(lambda_param, gather_distributed, **options)


class VICRegLoss(SaysIfGathering, losses.VICRegLoss):
    """``lightly.loss.VICRegLoss``."""

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D) or (N, …, D)."""
        _assert_batches(z_a, z_b)
        return super().forward(*promoted(z_a, z_b))


class VICRegLLoss(SaysIfGathering, losses.VICRegLLoss):
    """``lightly.loss.VICRegLLoss``, whose result has shape (1,)."""

    def forward(
        self,
        global_view_features: Sequence[tuple[Tensor, Tensor]],
        global_view_grids: Sequence[Tensor],
        local_view_features: Sequence[tuple[Tensor, Tensor]] | None = None,
        local_view_grids: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of all views' features."""
        if (local_view_features is None) != (local_view_grids is None):
            raise ValueError(
                "give local_view_features and local_view_grids, or neither; got "
                f"{type(local_view_features).__name__} and {type(local_view_grids).__name__}"
            )
        loss = super().forward(
            global_view_features, global_view_grids, local_view_features, local_view_grids
        )
        return loss.reshape(1)


class TiCoLoss(SaysIfGathering, losses.TiCoLoss):
    """``lightly.loss.TiCoLoss``, whose covariance is not saved in checkpoints.

    Attributes:
        C: (D, D), None before the first batch.
    """

    def __init__(
        self,
        beta: float = 0.9,
        rho: float = 8.0,
        gather_distributed: bool = False,
        **options,
    ) -> None:
        super().__init__(beta, rho, gather_distributed, **options)
        self.register_buffer("C", None, persistent=False)

    def forward(self, z_a: Tensor, z_b: Tensor, update_covariance_matrix: bool = True) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D), N at least 2."""
        _assert_batches(z_a, z_b)
        z_a, z_b = promoted(z_a, z_b)
        before = self.C
        if before is None:
            size = z_a.shape[1]
            before = torch.zeros(size, size, dtype=accumulation_dtype(z_a), device=z_a.device)
        covariance = tico_covariance(z_a, before, self.beta, gather=self.gather)
        if update_covariance_matrix:
            self.C = covariance
        return tico(z_a, z_b, covariance, self.rho, gather=self.gather)


class MMCRLoss(losses.MMCRLoss):
    """``lightly.loss.MMCRLoss``."""

    def __init__(self, lmda: float = 5e-3, **options) -> None:
        super().__init__(lmda, **options)

    def forward(self, online: Tensor, momentum: Tensor) -> Tensor:
        """Return the loss of two networks' embeddings, each (B, k, D)."""
        _assert_shapes(online=online, momentum=momentum)
        return super().forward(*promoted(online, momentum))


class Whitening2d(Whitening):
    """``lightly.loss.Whitening2d``: a singular covariance raises torch's ``LinAlgError``."""

    def forward(self, x: Tensor) -> Tensor:
        """Whiten (N, D)."""
        try:
            return super().forward(x)
        except ValueError as error:
            if isinstance(error.__cause__, torch.linalg.LinAlgError):
                raise torch.linalg.LinAlgError(str(error)) from error
            raise


class WMSELoss(losses.WMSELoss):
    """``lightly.loss.WMSELoss``."""

    def __init__(
        self,
        embedding_dim: int = 128,
        momentum: float = 0.01,
        eps: float = 0.0,
        track_running_stats: bool = True,
        w_iter: int = 1,
        w_size: int = 256,
        loss_fn: Callable[[Tensor, Tensor], Tensor] = norm_mse_loss,
        num_samples: int = 2,
    ) -> None:
        super().__init__(
            embedding_dim, momentum, eps, track_running_stats, w_iter, w_size, loss_fn, num_samples
        )
        self.whitening = Whitening2d(embedding_dim, momentum, track_running_stats, eps)
        self.num_pairs = num_samples * (num_samples - 1) // 2

    def forward(self, input: Tensor) -> Tensor:
        """Return the loss of (num_samples · N, D), one view after the other."""
        if len(input) % self.num_samples:
            raise RuntimeError(
                f"the batch must be a multiple of num_samples={self.num_samples}, got {len(input)}"
            )
        return super().forward(input)


def _assert_batches(z_a: Tensor, z_b: Tensor) -> None:
    if min(len(z_a), len(z_b)) < 2:
        raise AssertionError(f"batches must have at least 2 rows, got {len(z_a)} and {len(z_b)}")
    _assert_shapes(z_a=z_a, z_b=z_b)


def _assert_shapes(**views: Tensor) -> None:
    """Raise lightly's AssertionError, so that code which catches it still works."""
    shapes = [tuple(x.shape) for x in views.values()]
    if shapes[0] != shapes[1]:
        raise AssertionError(
            f"{' and '.join(views)} must have the same shape, got {shapes[0]} and {shapes[1]}"
        )
