"""Fused, exact, memory-linear kernels for self-supervised learning."""

from . import functional
from .distributed import Gather
from .losses import (
    BYOLLoss,
    CCALoss,
    CLIPLoss,
    DCLLoss,
    DCLWLoss,
    DirectCLRLoss,
    HypersphereLoss,
    InfoNCELoss,
    MemoryBank,
    MMCRLoss,
    MoCoLoss,
    MoCoV3Loss,
    NegativeCosineSimilarity,
    NNCLRLoss,
    NTXentLoss,
    SigLIPLoss,
    SimSiamLoss,
    SupConLoss,
)
from .primitives import nearest_neighbor, pairwise_logsumexp, pairwise_softplus

__all__ = [
    "BYOLLoss",
    "CCALoss",
    "CLIPLoss",
    "DCLLoss",
    "DCLWLoss",
    "DirectCLRLoss",
    "Gather",
    "HypersphereLoss",
    "InfoNCELoss",
    "MMCRLoss",
    "MemoryBank",
    "MoCoLoss",
    "MoCoV3Loss",
    "NNCLRLoss",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "SigLIPLoss",
    "SimSiamLoss",
    "SupConLoss",
    "functional",
    "nearest_neighbor",
    "pairwise_logsumexp",
    "pairwise_softplus",
]
