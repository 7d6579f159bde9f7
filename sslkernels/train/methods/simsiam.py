"""SimSiam (Chen and He 2021, arXiv:2011.10566): predict the other view, with stop-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ...data import SimSiamViews, View
from ...losses import SimSiamLoss
from ..recipe import Recipe
from .two_views import PredictedViews


@dataclass(frozen=True, kw_only=True)
class SimSiamRecipe(Recipe):
    """The settings of SimSiam, in addition to those of every method.

    Attributes:
        embedding_size: width of all three layers of the projector, and of the embeddings.
        predictor_size: width of the predictor's hidden layer, a bottleneck.
        predictor_rate: the predictor's learning rate as a multiple of the others': a predictor
            close to its optimum prevents collapse (Tian et al. 2021, arXiv:2102.06810).
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    embedding_size: int = 256
    predictor_size: int = 64
    predictor_rate: float = 20.0

    # facebookresearch/simsiam, main_simsiam.py (whose predictor has a constant learning rate)
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 100,
        "batch_size": 512,
        "optimizer": "sgd",
        "learning_rate": 0.05 * 512 / 256,
        "warmup_epochs": 0.0,
        "weight_decay": 1e-4,
        "embedding_size": 2048,
        "predictor_size": 512,
        "predictor_rate": 1.0,
    }

    def views(self) -> tuple[View, ...]:
        return SimSiamViews(size=self.image_size).views


class SimSiam(PredictedViews):
    """Backbone, three-layer projector, predictor and SimSiam's loss."""

    def __init__(self, backbone: nn.Module, recipe: SimSiamRecipe):
        sizes = [recipe.embedding_size] * 3
        loss = SimSiamLossOfViews()
        super().__init__(backbone, sizes, loss, recipe.predictor_size, last_norm=True)
        self.recipe = recipe

    def rate(self, name: str) -> float:
        return self.recipe.predictor_rate if name.startswith("predictor.") else 1.0


class SimSiamLossOfViews(SimSiamLoss):
    """SimSiam's loss of embeddings z and predictions p in the order of :class:`PredictedViews`."""

    def forward(  # type: ignore[override]
        self, z0: Tensor, z1: Tensor, p0: Tensor, p1: Tensor
    ) -> Tensor:
        return super().forward(p0, p1, z0, z1)
