"""MoCo v2 (Chen et al. 2020, arXiv:2003.04297): momentum contrast with a queue of negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import MoCoV2Views, View
from ...losses import MoCoLoss
from ..backbones import feature_size
from .momentum import MomentumMethod, MomentumRecipe
from .perceptron import perceptron


@dataclass(frozen=True, kw_only=True)
class MoCoV2Recipe(MomentumRecipe):
    """The settings of MoCo v2, in addition to those of a momentum teacher.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        queue_size: number of the teacher's past embeddings kept as negatives.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings in the loss.
        projector_norm: batch normalisation in the projector. The paper has none.
    """

    momentum: float = 0.99
    final_momentum: float = 0.99
    temperature: float = 0.2
    queue_size: int = 2048
    hidden_size: int = 256
    embedding_size: int = 64
    projector_norm: bool = True

    # facebookresearch/moco, README.md and main_moco.py: --mlp --aug-plus --cos --moco-t 0.2. Its
    # keys are shuffled over GPUs, each of which normalises a part of the batch.
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "epochs": 200,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.03,
        "warmup_epochs": 0.0,
        "weight_decay": 1e-4,
        "momentum": 0.999,
        "final_momentum": 0.999,
        "queue_size": 65536,
        "hidden_size": 2048,
        "embedding_size": 128,
        "projector_norm": False,
        "sync_batch_norm": False,
    }

    def views(self) -> tuple[View, ...]:
        return MoCoV2Views(size=self.image_size).views


class MoCoV2(MomentumMethod):
    """Student, teacher, and MoCo's loss with its queue."""

    def __init__(self, backbone: nn.Module, recipe: MoCoV2Recipe):
        sizes = [feature_size(backbone), recipe.hidden_size, recipe.embedding_size]
        super().__init__(backbone, perceptron(sizes, norm=recipe.projector_norm), recipe)
        self.loss = MoCoLoss(
            recipe.embedding_size,
            recipe.queue_size,
            recipe.temperature,
            gather_distributed=True,
        )

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """The student's embeddings (n, embedding_size) of one view, the teacher's of the other."""
        with torch.no_grad():
            keys = self.teacher(view1)
        return self.student(view0), keys
