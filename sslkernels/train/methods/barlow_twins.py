"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): features correlate only with themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...data import BarlowTwinsViews, View
from ...losses import BarlowTwinsLoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsRecipe(Recipe):
    """The settings of Barlow Twins, in addition to those of every method.

    Attributes:
        redundancy: weight λ of the squared correlations of different features. The paper's 0.0051
            is for 8,192 features, which have more pairs.
        projector_size: width of all three layers of the projector, and of the embeddings.
    """

    redundancy: float = 2e-2
    projector_size: int = 512

    # facebookresearch/barlowtwins, main.py (where biases have rate 0.0048 · batch_size / 256)
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 1000,
        "batch_size": 2048,
        "optimizer": "lars",
        "learning_rate": 0.2 * 2048 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "redundancy": 0.0051,
        "projector_size": 8192,
    }

    def views(self) -> tuple[View, ...]:
        return BarlowTwinsViews(size=self.image_size).views


class BarlowTwins(TwoViews):
    """Backbone, three-layer projector and Barlow Twins' loss."""

    def __init__(self, backbone: nn.Module, recipe: BarlowTwinsRecipe):
        loss = BarlowTwinsLoss(recipe.redundancy, gather_distributed=True)
        super().__init__(backbone, [recipe.projector_size] * 3, loss)
