"""Fused, exact, memory-linear kernels for self-supervised learning."""

from . import functional
from .distributed import Gather
from .losses import (
    BYOLLoss,
    CLIPLoss,
    DCLLoss,
    DCLWLoss,
    DirectCLRLoss,
    HypersphereLoss,
    InfoNCELoss,
    MemoryBank,
    MoCoLoss,
    MoCoV3Loss,
    NegativeCosineSimilarity,
    NNCLRLoss,
    NTXentLoss,
    SigLIPLoss,
    SimSiamLoss,
    SupConLoss,
)
from .primitives import (
    Standardized,
    nearest_neighbor,
    offdiagonal_norm,
    pairwise_logsumexp,
    pairwise_softplus,
)

__all__ = [
    "BYOLLoss",
    "CLIPLoss",
    "DCLLoss",
    "DCLWLoss",
    "DirectCLRLoss",
    "Gather",
    "HypersphereLoss",
    "InfoNCELoss",
    "MemoryBank",
    "MoCoLoss",
    "MoCoV3Loss",
    "NNCLRLoss",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "SigLIPLoss",
    "SimSiamLoss",
    "Standardized",
    "SupConLoss",
    "functional",
    "nearest_neighbor",
    "offdiagonal_norm",
    "pairwise_logsumexp",
    "pairwise_softplus",
]
