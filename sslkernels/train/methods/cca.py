"""Deep CCA (Andrew et al. 2013, ICML): correlate the features of two views."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...losses import CCALoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class CCARecipe(Recipe):
    """The settings of CCA, in addition to those of every method. None are published for ImageNet.

    Attributes:
        ridge: added to the diagonals of the covariances: features whose variance is below it count
            as noise.
        hidden_size: width of the projector's hidden layer.
        embedding_size: width of the embeddings, whose canonical correlations are summed; must be
            well below the batch size, since any batch correlates otherwise.
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
