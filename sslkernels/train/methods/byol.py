"""BYOL (Grill et al. 2020, arXiv:2006.07733): predict the teacher's embedding of the other view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import BYOLViews, View
from ...losses import BYOLLoss
from ..backbones import feature_size
from .momentum import MomentumMethod, MomentumRecipe, embed
from .perceptron import perceptron


@dataclass(frozen=True, kw_only=True)
class BYOLRecipe(MomentumRecipe):
    """The settings of BYOL, in addition to those of a momentum teacher.

    Attributes:
        hidden_size: width of the hidden layers of projector and predictor.
        embedding_size: width of the embeddings in the loss.
        predictor_rate: the predictor's learning rate as a multiple of the others': a predictor
            close to its optimum prevents collapse (the paper's appendix; Tian et al. 2021,
            arXiv:2102.06810).
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    hidden_size: int = 256
    embedding_size: int = 64
    predictor_rate: float = 20.0

    # google-deepmind/deepmind-research, byol/configs/byol.py: 1,000 epochs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 1000,
        "batch_size": 4096,
        "optimizer": "lars",
        "learning_rate": 0.2 * 4096 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1.5e-6,
        "momentum": 0.996,
        "hidden_size": 4096,
        "embedding_size": 256,
        "predictor_rate": 1.0,
    }

    def views(self) -> tuple[View, ...]:
        return BYOLViews(size=self.image_size).views


class BYOL(MomentumMethod):
    """Student with a predictor, teacher, and BYOL's loss."""

    recipe: BYOLRecipe

    def __init__(self, backbone: nn.Module, recipe: BYOLRecipe):
        hidden, size = recipe.hidden_size, recipe.embedding_size
        super().__init__(backbone, perceptron([feature_size(backbone), hidden, size]), recipe)
        self.predictor: nn.Module = perceptron([size, hidden, size])
        self.loss = BYOLLoss()

    def rate(self, name: str) -> float:
        return self.recipe.predictor_rate if name.startswith("predictor.") else 1.0

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Predictions (n, embedding_size) of both views, then the teacher's embeddings of both."""
        with torch.no_grad():
            targets = embed(self.teacher, view0, view1)
        predictions = self.predictor(self.student(torch.cat([view0, view1])))
        return *predictions.chunk(2), *targets
