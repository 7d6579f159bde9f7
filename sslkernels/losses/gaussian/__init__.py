"""Losses that make embeddings isotropic Gaussian, tested along random directions."""

from .bcs import BCSLoss, bcs
from .lejepa import LeJEPALoss, lejepa
from .lewm import LeWMLoss, lewm
from .sigreg import SIGRegLoss, sigreg
from .sliced import SlicedLoss
from .visreg import VISRegLoss, visreg

__all__ = [
    "BCSLoss",
    "LeJEPALoss",
    "LeWMLoss",
    "SIGRegLoss",
    "SlicedLoss",
    "VISRegLoss",
    "bcs",
    "lejepa",
    "lewm",
    "sigreg",
    "visreg",
]
