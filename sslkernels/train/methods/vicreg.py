"""VICReg (Bardes et al. 2022, arXiv:2105.04906): invariance, variance, and no covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...data import VICRegViews, View
from ...losses import VICRegLoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class VICRegRecipe(Recipe):
    """The settings of VICReg, in addition to those of every method.

    Attributes:
        invariance: weight of the views' squared difference.
        variance: weight of the hinge on each feature's standard deviation.
        covariance: weight of the squared covariances of different features. The paper's 1 is for
            8,192 features: the term grows with their number.
        expander_size: width of all three layers of the projector, and of the embeddings.
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 4.0
    expander_size: int = 512

    # facebookresearch/vicreg, README.md: 1,000 epochs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 1000,
        "batch_size": 2048,
        "optimizer": "lars",
        "learning_rate": 0.2 * 2048 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "covariance": 1.0,
        "expander_size": 8192,
    }

    def views(self) -> tuple[View, ...]:
        return VICRegViews(size=self.image_size).views


class VICReg(TwoViews):
    """Backbone, three-layer expander and VICReg's loss."""

    def __init__(self, backbone: nn.Module, recipe: VICRegRecipe):
        weights = recipe.invariance, recipe.variance, recipe.covariance
        loss = VICRegLoss(*weights, gather_distributed=True)
        super().__init__(backbone, [recipe.expander_size] * 3, loss)
