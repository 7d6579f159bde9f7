"""Fused, exact, memory-linear kernels for self-supervised learning."""

from . import functional
from .losses import NTXentLoss
from .primitives import pairwise_logsumexp, pairwise_softplus

__all__ = ["NTXentLoss", "functional", "pairwise_logsumexp", "pairwise_softplus"]
