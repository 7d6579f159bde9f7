"""The InfoNCE family: a log-sum-exp over pairwise similarities minus the positives."""

from .decoupled import DCLLoss, DCLWLoss, dcl, dclw
from .info_nce import InfoNCELoss, info_nce
from .language_image import CLIPLoss, SigLIPLoss, clip, siglip
from .memory_bank import MemoryBank
from .moco import MoCoLoss, MoCoV3Loss, moco, moco_v3
from .nnclr import NNCLRLoss, nnclr
from .nt_xent import DirectCLRLoss, NTXentLoss, nt_xent
from .supcon import SupConLoss, supcon

__all__ = [
    "CLIPLoss",
    "DCLLoss",
    "DCLWLoss",
    "DirectCLRLoss",
    "InfoNCELoss",
    "MemoryBank",
    "MoCoLoss",
    "MoCoV3Loss",
    "NNCLRLoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SupConLoss",
    "clip",
    "dcl",
    "dclw",
    "info_nce",
    "moco",
    "moco_v3",
    "nnclr",
    "nt_xent",
    "siglip",
    "supcon",
]
