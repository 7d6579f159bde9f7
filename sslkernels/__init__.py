"""Fused, exact, memory-linear kernels for self-supervised learning."""

from . import functional
from .losses import NTXentLoss
from .primitives import nearest_neighbor, pairwise_logsumexp, pairwise_softplus

__all__ = [
    "NTXentLoss",
    "functional",
    "nearest_neighbor",
    "pairwise_logsumexp",
    "pairwise_softplus",
]
