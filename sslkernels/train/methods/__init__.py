"""Methods, one file each.

A :class:`Method` is an ``nn.Module`` with a ``backbone``; ``method(*inputs)`` returns a tuple of
embeddings, ``method.loss(*embeddings)`` is the training loss, and ``method.after_step()`` updates
state such as a momentum teacher. ``METHODS`` maps names to methods and their recipes.
"""

from ..recipe import Recipe
from .barlow_twins import BarlowTwins, BarlowTwinsRecipe
from .byol import BYOL, BYOLRecipe
from .cca import CCA, CCARecipe
from .colorization import Colorization, ColorizationRecipe
from .dino import DINO, DINORecipe
from .directclr import DirectCLR, DirectCLRRecipe
from .ibot import IBOT, IBOTRecipe
from .jigsaw import Jigsaw, JigsawRecipe
from .lejepa import LeJEPA, LeJEPARecipe
from .method import Method
from .moco_v2 import MoCoV2, MoCoV2Recipe
from .moco_v3 import MoCoV3, MoCoV3Recipe
from .nnclr import NNCLR, NNCLRRecipe
from .relative_patch import RelativePatch, RelativePatchRecipe
from .rotation import Rotation, RotationRecipe
from .simclr import SimCLR, SimCLRRecipe
from .simdino import SimDINO, SimDINORecipe
from .simsiam import SimSiam, SimSiamRecipe
from .supervised import Supervised, SupervisedRecipe
from .swav import SwAV, SwAVRecipe
from .vicreg import VICReg, VICRegRecipe
from .vicregl import VICRegL, VICRegLRecipe
from .w_mse import WMSE, WMSERecipe

METHODS: dict[str, tuple[type[Method], type[Recipe]]] = {
    "simclr": (SimCLR, SimCLRRecipe),
    "moco_v2": (MoCoV2, MoCoV2Recipe),
    "moco_v3": (MoCoV3, MoCoV3Recipe),
    "nnclr": (NNCLR, NNCLRRecipe),
    "byol": (BYOL, BYOLRecipe),
    "simsiam": (SimSiam, SimSiamRecipe),
    "swav": (SwAV, SwAVRecipe),
    "barlow_twins": (BarlowTwins, BarlowTwinsRecipe),
    "vicreg": (VICReg, VICRegRecipe),
    "vicregl": (VICRegL, VICRegLRecipe),
    "w_mse": (WMSE, WMSERecipe),
    "cca": (CCA, CCARecipe),
    "directclr": (DirectCLR, DirectCLRRecipe),
    "dino": (DINO, DINORecipe),
    "ibot": (IBOT, IBOTRecipe),
    "simdino": (SimDINO, SimDINORecipe),
    "lejepa": (LeJEPA, LeJEPARecipe),
    "rotation": (Rotation, RotationRecipe),
    "relative_patch": (RelativePatch, RelativePatchRecipe),
    "jigsaw": (Jigsaw, JigsawRecipe),
    "colorization": (Colorization, ColorizationRecipe),
    "supervised": (Supervised, SupervisedRecipe),
}

__all__ = [
    "BYOL",
    "CCA",
    "DINO",
    "IBOT",
    "METHODS",
    "NNCLR",
    "WMSE",
    "BYOLRecipe",
    "BarlowTwins",
    "BarlowTwinsRecipe",
    "CCARecipe",
    "Colorization",
    "ColorizationRecipe",
    "DINORecipe",
    "DirectCLR",
    "DirectCLRRecipe",
    "IBOTRecipe",
    "Jigsaw",
    "JigsawRecipe",
    "LeJEPA",
    "LeJEPARecipe",
    "Method",
    "MoCoV2",
    "MoCoV2Recipe",
    "MoCoV3",
    "MoCoV3Recipe",
    "NNCLRRecipe",
    "RelativePatch",
    "RelativePatchRecipe",
    "Rotation",
    "RotationRecipe",
    "SimCLR",
    "SimCLRRecipe",
    "SimDINO",
    "SimDINORecipe",
    "SimSiam",
    "SimSiamRecipe",
    "Supervised",
    "SupervisedRecipe",
    "SwAV",
    "SwAVRecipe",
    "VICReg",
    "VICRegL",
    "VICRegLRecipe",
    "VICRegRecipe",
    "WMSERecipe",
]
