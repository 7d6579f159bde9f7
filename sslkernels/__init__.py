"""Fused, exact, memory-linear kernels for self-supervised learning."""

from . import functional
from .losses import NTXentLoss
from .primitives import nearest_neighbor, pairwise_logsumexp

__all__ = ["NTXentLoss", "functional", "nearest_neighbor", "pairwise_logsumexp"]
