"""NNCLR (Dwibedi et al. 2021, arXiv:2104.14548): contrast with nearest neighbours of views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...data import BYOLViews, View
from ...losses import NNCLRLoss
from ..recipe import Recipe
from .two_views import PredictedViews


@dataclass(frozen=True, kw_only=True)
class NNCLRRecipe(Recipe):
    """The settings of NNCLR, in addition to those of every method.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        queue_size: number of past embeddings in the support set.
        hidden_size: width of the projector's two hidden layers.
        embedding_size: width of the embeddings in the loss.
        predictor_size: width of the predictor's hidden layer.
    """

    temperature: float = 0.2
    queue_size: int = 2048
    hidden_size: int = 256
    embedding_size: int = 64
    predictor_size: int = 256

    # section 4.1 and appendix of the paper: 1,000 epochs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 1000,
        "batch_size": 4096,
        "optimizer": "lars",
        "learning_rate": 0.3 * 4096 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "temperature": 0.1,
        "queue_size": 98304,
        "hidden_size": 2048,
        "embedding_size": 256,
        "predictor_size": 4096,
    }

    def views(self) -> tuple[View, ...]:
        return BYOLViews(size=self.image_size).views


class NNCLR(PredictedViews):
    """Backbone, three-layer projector, predictor, and NNCLR's loss with its support set."""

    def __init__(self, backbone: nn.Module, recipe: NNCLRRecipe):
        sizes = [recipe.hidden_size, recipe.hidden_size, recipe.embedding_size]
        loss = NNCLRLoss(
            recipe.embedding_size,
            recipe.queue_size,
            recipe.temperature,
            gather_distributed=True,
        )
        super().__init__(backbone, sizes, loss, recipe.predictor_size, last_norm=True)
