"""Deep CCA (Andrew et al. 2013, ICML): two views' features correlate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...losses import CCALoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class CCARecipe(Recipe):
    """The settings of CCA, beside those of every method. There are none published for ImageNet.

    Attributes:
        ridge: added to the covariances' diagonals: how little a feature may vary before it counts
            as noise.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings, whose canonical correlations are summed; well
            below the batch, as else any batch correlates.
    """

    batch_size: int = 128
    ridge: float = 1e-2
    hidden_size: int = 256
    embedding_size: int = 64


class CCA(TwoViews):
    """Backbone, two-layer projector and the sum of canonical correlations."""

    def __init__(self, backbone: nn.Module, recipe: CCARecipe):
        sizes = [recipe.hidden_size, recipe.embedding_size]
        super().__init__(backbone, sizes, CCALoss(recipe.ridge, gather_distributed=True))
