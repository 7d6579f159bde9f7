"""SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image find each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...losses import NTXentLoss
from ..recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SimCLRRecipe(Recipe):
    """The settings of SimCLR, beside those of every method.

    Attributes:
        temperature: divides the cosine similarities in the loss.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings that the loss sees.
    """

    temperature: float = 0.2
    hidden_size: int = 256
    embedding_size: int = 64


class SimCLR(nn.Module):
    """Backbone, two-layer projector and NT-Xent loss.

    Args:
        backbone: maps images to (n, ``backbone.feature_size``) features.
        recipe: projector sizes and temperature.
    """

    def __init__(self, backbone: nn.Module, recipe: SimCLRRecipe):
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Sequential(
            nn.Linear(backbone.feature_size, recipe.hidden_size, bias=False),
            nn.BatchNorm1d(recipe.hidden_size),
            nn.ReLU(),
            nn.Linear(recipe.hidden_size, recipe.embedding_size),
        )
        self.loss = NTXentLoss(recipe.temperature)

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (n, embedding_size) of each of two views (n, c, h, w)."""
        return self.projector(self.backbone(torch.cat([view0, view1]))).chunk(2)
