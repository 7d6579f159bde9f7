"""DirectCLR (Jing et al. 2022, arXiv:2110.09348): SimCLR on part of the features, no projector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...losses import DirectCLRLoss
from ..backbones import feature_size
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class DirectCLRRecipe(Recipe):
    """The settings of DirectCLR, in addition to those of every method.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        loss_size: number of features in the loss; the others are trained through the residual
            connections of the last block.
    """

    temperature: float = 0.2
    loss_size: int = 32

    # facebookresearch/directclr, directclr/main.py (whose loss leaves out pairs within a view)
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 100,
        "batch_size": 4096,
        "optimizer": "lars",
        "learning_rate": 4.8,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "temperature": 0.1,
        "loss_size": 360,
    }


class DirectCLR(TwoViews):
    """Backbone, no projector, and NT-Xent loss on the first features."""

    def __init__(self, backbone: nn.Module, recipe: DirectCLRRecipe):
        if recipe.loss_size > feature_size(backbone):
            raise ValueError(
                f"loss_size must be at most the backbone's {feature_size(backbone)} features, "
                f"got {recipe.loss_size}"
            )
        loss = DirectCLRLoss(recipe.loss_size, recipe.temperature, gather_distributed=True)
        super().__init__(backbone, [], loss)
