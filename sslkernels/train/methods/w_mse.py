"""W-MSE (Ermolov et al. 2021, arXiv:2007.06346): whitened views agree."""

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
    """The settings of W-MSE, beside those of every method.

    Attributes:
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings that are whitened.
        whitened_size: how many images are whitened together, at least twice ``embedding_size``. On
            each rank its share of a batch must be a multiple.
        divisions: how often a batch is divided at random into such parts.

    Raises:
        ValueError: as every recipe; or a batch is no multiple of ``whitened_size``.
    """

    batch_size: int = 128
    hidden_size: int = 256
    embedding_size: int = 64
    whitened_size: int = 128
    divisions: int = 1

    # htdt/self-supervised, README.md: Tiny ImageNet, two views, an Adam without weight decay to
    # speak of. On ImageNet itself its authors have published no settings.
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
    """W-MSE of two views apart."""

    def __init__(self, recipe: WMSERecipe):
        super().__init__(
            recipe.embedding_size,
            track_running_stats=False,
            w_iter=recipe.divisions,
            w_size=recipe.whitened_size,
        )

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([z0, z1]))
