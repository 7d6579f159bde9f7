"""Self-supervised methods, one file each.

A method is an ``nn.Module`` with a ``backbone``; ``method(*views)`` returns a tuple of embeddings,
and ``method.loss(*embeddings)`` is what training lowers.
"""

from .barlow_twins import BarlowTwins, BarlowTwinsRecipe
from .simclr import SimCLR, SimCLRRecipe
from .two_views import TwoViews
from .vicreg import VICReg, VICRegRecipe

__all__ = [
    "BarlowTwins",
    "BarlowTwinsRecipe",
    "SimCLR",
    "SimCLRRecipe",
    "TwoViews",
    "VICReg",
    "VICRegRecipe",
]
