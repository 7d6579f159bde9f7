"""SwAV (Caron et al. 2020, arXiv:2006.09882): predict the cluster assignments of other views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import SwAVViews, View
from ...losses import SwaVLoss
from ..backbones import feature_size
from ..recipe import Recipe
from .method import Method
from .momentum import embed
from .perceptron import perceptron
from .self_distillation import unit

WHOLE_VIEWS = 2


@dataclass(frozen=True, kw_only=True)
class SwAVRecipe(Recipe):
    """The settings of SwAV, in addition to those of every method.

    Attributes:
        local_views: small views of a part of each image, which predict but are not predicted.
        temperature: divides the logits of the predictions.
        epsilon: divides the logits of the assignments.
        prototypes: number of clusters. More distinguish more.
        frozen_epochs: epochs in which the prototypes are not trained; may be a fraction.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of its output, unit vectors.
    """

    local_views: int = 0  # type: ignore[misc]
    temperature: float = 0.1
    epsilon: float = 0.05
    prototypes: int = 256
    frozen_epochs: float = 1.0
    hidden_size: int = 256
    embedding_size: int = 64

    may_be_zero = (*Recipe.may_be_zero, "local_views", "frozen_epochs")

    # facebookresearch/swav, scripts/swav_800ep_pretrain.sh; frozen for 313 steps, an epoch
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "local_size": 96,
        "local_views": 6,
        "epochs": 800,
        "batch_size": 4096,
        "optimizer": "lars",
        "learning_rate": 4.8,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "temperature": 0.1,
        "epsilon": 0.05,
        "prototypes": 3000,
        "frozen_epochs": 1.0,
        "hidden_size": 2048,
        "embedding_size": 128,
        "precision": "float16",
    }

    def views(self) -> tuple[View, ...]:
        return SwAVViews(
            global_size=self.image_size, local_size=self.local_size, local_views=self.local_views
        ).views


class SwAV(Method):
    """Backbone, two-layer projector, prototypes and SwAV's loss, without a queue."""

    loss: ClusterLoss

    def __init__(self, backbone: nn.Module, recipe: SwAVRecipe):
        super().__init__()
        self.backbone, self.recipe = backbone, recipe
        sizes = [feature_size(backbone), recipe.hidden_size, recipe.embedding_size]
        self.projector = perceptron(sizes)
        self.loss = ClusterLoss(recipe)

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """Unit vectors (n, embedding_size) of all views, starting with the two whole views."""
        groups = views[:WHOLE_VIEWS], views[WHOLE_VIEWS:]
        return tuple(unit(z) for group in groups for z in embed(self._embed, *group))

    def _embed(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))

    def before_step(self) -> None:
        if self.progress * self.recipe.epochs < self.recipe.frozen_epochs:
            self.loss.prototypes.grad = None

    @torch.no_grad()
    def after_step(self) -> None:
        self.loss.prototypes.copy_(F.normalize(self.loss.prototypes, dim=1))


class ClusterLoss(nn.Module):
    """SwAV's loss of unit vectors; the logits, cosines with the prototypes, are never stored.

    Attributes:
        prototypes: (prototypes, embedding_size) parameter, of unit vectors.
    """

    def __init__(self, recipe: SwAVRecipe):
        super().__init__()
        drawn = torch.randn(recipe.prototypes, recipe.embedding_size)
        self.prototypes = nn.Parameter(F.normalize(drawn, dim=1))
        self.assigned = SwaVLoss(
            recipe.temperature, sinkhorn_epsilon=recipe.epsilon, sinkhorn_gather_distributed=True
        )

    def forward(self, *embeddings: Tensor) -> Tensor:
        whole, local = embeddings[:WHOLE_VIEWS], embeddings[WHOLE_VIEWS:]
        return self.assigned(whole, local, prototypes=self.prototypes)
