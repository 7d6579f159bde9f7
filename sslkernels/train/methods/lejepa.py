"""LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544): invariance and Gaussian embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import LeJEPAViews, View
from ...losses import LeJEPALoss
from ..backbones import feature_size
from ..recipe import Recipe
from .method import Method
from .momentum import embed
from .perceptron import perceptron


@dataclass(frozen=True, kw_only=True)
class LeJEPARecipe(Recipe):
    """The settings of LeJEPA, in addition to those of every method.

    Attributes:
        global_views: views of the whole image; all views are pulled towards their mean.
        local_views: small views of a part of it.
        sigreg: weight λ of SIGReg, from 0 to 1; the squared distance of views has weight 1 − λ.
            SIGReg grows with the batch: the demo's small batches need more than the paper's 0.05.
        slices: number of random directions along which embeddings are compared with a normal
            distribution.
        knots: points of the integral in each comparison, from 0 to 3.
        hidden_size: width of the projector's two hidden layers.
        embedding_size: width of the embeddings.
    """

    epochs: int = 15
    global_views: int = 2  # type: ignore[misc]
    local_views: int = 2  # type: ignore[misc]
    sigreg: float = 0.1
    slices: int = 256
    knots: int = 17
    hidden_size: int = 256
    embedding_size: int = 64

    may_be_zero = (*Recipe.may_be_zero, "local_views", "sigreg")

    # rbalestr-lab/lejepa, README.md: ViT-L/14 for 100 epochs. Batch size, warm-up, projector and
    # loss are those of lightly's benchmark of it; the authors' small example, MINIMAL.md, has
    # sigreg 0.02, 256 slices and 16 embeddings
    published: ClassVar[dict[str, Any]] = {
        "backbone": "timm:vit_large_patch14_224",
        "image_size": 224,
        "local_size": 98,
        "local_views": 6,
        "epochs": 100,
        "batch_size": 512,
        "learning_rate": 5e-4,
        "warmup_epochs": 1.0,
        "weight_decay": 5e-2,
        "sigreg": 0.05,
        "slices": 1024,
        "knots": 17,
        "hidden_size": 2048,
        "embedding_size": 64,
        "precision": "bfloat16",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigreg > 1:
            raise ValueError(f"sigreg must be at most 1, got {self.sigreg}")
        if self.knots < 2:
            raise ValueError(f"knots must be at least 2, got {self.knots}")

    def views(self) -> tuple[View, ...]:
        return LeJEPAViews(
            global_size=self.image_size,
            local_size=self.local_size,
            global_views=self.global_views,
            local_views=self.local_views,
        ).views


class LeJEPA(Method):
    """Backbone, three-layer projector and LeJEPA's loss; no teacher, no predictor."""

    def __init__(self, backbone: nn.Module, recipe: LeJEPARecipe):
        super().__init__()
        hidden = [recipe.hidden_size] * 2
        self.backbone = backbone
        self.projector = perceptron([feature_size(backbone), *hidden, recipe.embedding_size])
        self.global_views = recipe.global_views
        self.criterion = LeJEPALoss(
            recipe.sigreg,
            gather_distributed=True,
            num_slices=recipe.slices,
            knots=recipe.knots,
            seed=recipe.seed,
        )

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (n, embedding_size) of each view, starting with the ``global_views`` views of
        the whole image."""
        whole, local = views[: self.global_views], views[self.global_views :]
        return *embed(self._project, *whole), *embed(self._project, *local)

    def _project(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))

    def loss(self, *embeddings: Tensor) -> Tensor:
        """The loss of the embeddings of all views, in that order."""
        whole, local = embeddings[: self.global_views], embeddings[self.global_views :]
        return self.criterion(torch.stack(whole), torch.stack(local) if local else None)
