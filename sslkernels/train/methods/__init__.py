"""Self-supervised methods, one file each.

A :class:`Method` is an ``nn.Module`` with a ``backbone``; ``method(*views)`` returns a tuple of
embeddings, ``method.loss(*embeddings)`` is what training lowers, and ``method.after_step()`` moves
what follows the training, such as a teacher. ``METHODS`` has them by name, with their recipes.
"""

from ..recipe import Recipe
from .barlow_twins import BarlowTwins, BarlowTwinsRecipe
from .dino import DINO, DINORecipe
from .ibot import IBOT, IBOTRecipe
from .method import Method
from .simclr import SimCLR, SimCLRRecipe
from .simdino import SimDINO, SimDINORecipe
from .two_views import TwoViews
from .vicreg import VICReg, VICRegRecipe

METHODS: dict[str, tuple[type[Method], type[Recipe]]] = {
    "simclr": (SimCLR, SimCLRRecipe),
    "barlow_twins": (BarlowTwins, BarlowTwinsRecipe),
    "dino": (DINO, DINORecipe),
    "ibot": (IBOT, IBOTRecipe),
    "simdino": (SimDINO, SimDINORecipe),
    "vicreg": (VICReg, VICRegRecipe),
}

__all__ = [
    "DINO",
    "IBOT",
    "METHODS",
    "BarlowTwins",
    "BarlowTwinsRecipe",
    "DINORecipe",
    "IBOTRecipe",
    "Method",
    "SimCLR",
    "SimCLRRecipe",
    "SimDINO",
    "SimDINORecipe",
    "TwoViews",
    "VICReg",
    "VICRegRecipe",
]
