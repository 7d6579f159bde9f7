"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): features agree with themselves alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...losses import BarlowTwinsLoss
from ..recipe import Recipe
from .two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsRecipe(Recipe):
    """The settings of Barlow Twins, beside those of every method.

    Attributes:
        redundancy: weight λ of the squared correlations of different features. The paper's 0.0051
            is for 8192 features, of which there are more pairs.
        projector_size: width of all three layers of the projector, and of the embeddings.
    """

    redundancy: float = 2e-2
    projector_size: int = 512


class BarlowTwins(TwoViews):
    """Backbone, three-layer projector and Barlow Twins' loss."""

    def __init__(self, backbone: nn.Module, recipe: BarlowTwinsRecipe):
        sizes = [recipe.projector_size] * 3
        super().__init__(
            backbone, sizes, BarlowTwinsLoss(recipe.redundancy, gather_distributed=True)
        )
