"""RotNet (Gidaris et al. 2018, arXiv:1803.07728): predict the rotation of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ...data import ViewBatch
from ...data.pretext import rotate
from ..backbones import feature_size
from .labels import LabelMethod, PretextRecipe, generator_of


@dataclass(frozen=True, kw_only=True)
class RotationRecipe(PretextRecipe):
    """The settings of RotNet."""

    # gidariss/FeatureLearningRotNet, config/ImageNet_RotNet_AlexNet.py, which divides the learning
    # rate by ten at epochs 15, 30 and 45, and trains on all four rotations of each image at once
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:alexnet",
        "image_size": 224,
        "epochs": 50,
        "batch_size": 192,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "warmup_epochs": 0.0,
        "weight_decay": 5e-4,
    }


class Rotation(LabelMethod):
    """Backbone, linear classifier of four quarter turns."""

    def __init__(self, backbone: nn.Module, recipe: RotationRecipe):
        super().__init__()
        self.backbone, self.projector = backbone, nn.Sequential()
        self.classifier = nn.Linear(feature_size(backbone), 4)

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        (images,) = batch.views
        return rotate(images, generator_of(images.device), flip=0.0)  # views are flipped already

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self.classifier(self.backbone(images)), labels
