"""W-MSE (Ermolov et al. 2021, arXiv:2007.06346): alignment of whitened views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...losses import WMSELoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class WMSERecipe(Recipe):
    """The settings of W-MSE, in addition to those of every method.

    Attributes:
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings that are whitened.
        whitened_size: number of images whitened together, at least twice ``embedding_size``. Each
            rank's share of a batch must be a multiple of it.
        divisions: number of random divisions of a batch into such parts.

    Raises:
        ValueError: as for every recipe, or if the batch size is not a multiple of
            ``whitened_size``.
    """

    batch_size: int = 128
    hidden_size: int = 256
    embedding_size: int = 64
    whitened_size: int = 128
    divisions: int = 1

    # htdt/self-supervised, README.md: Tiny ImageNet, two views, Adam with negligible weight decay.
    # The authors have published no settings for ImageNet itself.
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet18",
        "image_size": 64,
        "epochs": 1000,
        "batch_size": 512,
        "learning_rate": 2e-3,
        "weight_decay": 1e-6,
        "hidden_size": 1024,
        "embedding_size": 128,
        "whitened_size": 256,
        "divisions": 4,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.whitened_size:
            raise ValueError(
                f"batch_size must be a multiple of whitened_size={self.whitened_size}, "
                f"got {self.batch_size}"
            )


class WMSE(TwoViews):
    """Backbone, two-layer projector and W-MSE's loss."""

    def __init__(self, backbone: nn.Module, recipe: WMSERecipe):
        sizes = [recipe.hidden_size, recipe.embedding_size]
        super().__init__(backbone, sizes, WhitenedLoss(recipe))


class WhitenedLoss(WMSELoss):
    """W-MSE of two views as separate arguments."""

    def __init__(self, recipe: WMSERecipe):
        super().__init__(
            recipe.embedding_size,
            track_running_stats=False,
            w_iter=recipe.divisions,
            w_size=recipe.whitened_size,
        )

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([z0, z1]))
