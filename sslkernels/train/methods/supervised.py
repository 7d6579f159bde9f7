"""Supervised training with a projector, to study the projector alone.

Between backbone and classifier, a projector absorbs what is specific to the training classes (Wang
et al. 2022, arXiv:2112.00496; Bordes et al. 2023, arXiv:2206.13378): the features before it
transfer better than its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ...data import View, ViewBatch
from ..backbones import feature_size
from .labels import LabelMethod, LabelRecipe
from .perceptron import perceptron


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(LabelRecipe):
    """The settings of supervised training, in addition to those of every method.

    Attributes:
        classes: number of labels, 0 … classes − 1.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the classifier's input.
    """

    classes: int = 10
    hidden_size: int = 256
    embedding_size: int = 64

    # Goyal et al. 2017, arXiv:1706.02677, for the optimiser; SimCLR's projector
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 90,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "warmup_epochs": 5.0,
        "weight_decay": 1e-4,
        "classes": 1000,
        "hidden_size": 2048,
        "embedding_size": 128,
    }

    def views(self) -> tuple[View, ...]:
        return (View(size=self.image_size, jitter=0.0, grayscale=0.0, blur=0.0),)


class Supervised(LabelMethod):
    """Backbone, two-layer projector, linear classifier and cross-entropy."""

    def __init__(self, backbone: nn.Module, recipe: SupervisedRecipe):
        super().__init__()
        self.backbone, self.recipe = backbone, recipe
        sizes = [feature_size(backbone), recipe.hidden_size, recipe.embedding_size]
        self.projector = perceptron(sizes, last_norm=True)
        self.classifier = nn.Sequential(nn.ReLU(), nn.Linear(sizes[-1], recipe.classes))

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        labels = batch.labels
        # not checked on CUDA, where it would synchronise
        if not labels.is_cuda and labels.max() >= self.recipe.classes:
            raise ValueError(
                f"classes must be above every label, got classes={self.recipe.classes} and a "
                f"label {int(labels.max())}"
            )
        return batch.views[0], labels

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self.classifier(self.projector(self.backbone(images))), labels
