"""MoCo v3 (Chen et al. 2021, arXiv:2104.02057): momentum contrast with in-batch negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import MoCoV3Views, View
from ...losses import MoCoV3Loss
from ..backbones import feature_size
from .momentum import MomentumMethod, MomentumRecipe, embed
from .perceptron import perceptron


@dataclass(frozen=True, kw_only=True)
class MoCoV3Recipe(MomentumRecipe):
    """The settings of MoCo v3, in addition to those of a momentum teacher.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        hidden_size: width of the hidden layers of projector and predictor.
        embedding_size: width of the embeddings in the loss.
    """

    temperature: float = 0.2
    hidden_size: int = 256
    embedding_size: int = 64

    # facebookresearch/moco-v3, CONFIG.md: ResNet-50 for 300 epochs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 300,
        "batch_size": 4096,
        "optimizer": "lars",
        "learning_rate": 0.3 * 4096 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "momentum": 0.99,
        "temperature": 1.0,
        "hidden_size": 4096,
        "embedding_size": 256,
    }

    def views(self) -> tuple[View, ...]:
        return MoCoV3Views(size=self.image_size, scale=(0.2, 1.0)).views


class MoCoV3(MomentumMethod):
    """Student with a predictor, teacher, and MoCo v3's loss."""

    def __init__(self, backbone: nn.Module, recipe: MoCoV3Recipe):
        hidden, size = recipe.hidden_size, recipe.embedding_size
        projector = perceptron([feature_size(backbone), hidden, size], last_norm=True)
        super().__init__(backbone, projector, recipe)
        self.predictor = perceptron([size, hidden, size])
        self.loss = MoCoV3Loss(recipe.temperature, gather_distributed=True)

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Predictions (n, embedding_size) of both views, then the teacher's embeddings of both."""
        with torch.no_grad():
            keys = embed(self.teacher, view0, view1)
        queries = self.predictor(self.student(torch.cat([view0, view1])))
        return *queries.chunk(2), *keys
