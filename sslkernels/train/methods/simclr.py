"""SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image find each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...losses import NTXentLoss
from ..recipe import Recipe
from .two_views import TwoViews


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


class SimCLR(TwoViews):
    """Backbone, two-layer projector and NT-Xent loss."""

    def __init__(self, backbone: nn.Module, recipe: SimCLRRecipe):
        sizes = [recipe.hidden_size, recipe.embedding_size]
        super().__init__(backbone, sizes, NTXentLoss(recipe.temperature, gather_distributed=True))
