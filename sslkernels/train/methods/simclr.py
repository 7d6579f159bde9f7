"""SimCLR (Chen et al. 2020, arXiv:2002.05709): contrast of two views with in-batch negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...losses import NTXentLoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class SimCLRRecipe(Recipe):
    """The settings of SimCLR, in addition to those of every method.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings in the loss.
    """

    temperature: float = 0.2
    hidden_size: int = 256
    embedding_size: int = 64

    # google-research/simclr, README.md and section 2 of the paper: 1,000 epochs
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
        "hidden_size": 2048,
        "embedding_size": 128,
    }


class SimCLR(TwoViews):
    """Backbone, two-layer projector and NT-Xent loss."""

    def __init__(self, backbone: nn.Module, recipe: SimCLRRecipe):
        sizes = [recipe.hidden_size, recipe.embedding_size]
        loss = NTXentLoss(recipe.temperature, gather_distributed=True)
        super().__init__(backbone, sizes, loss)
