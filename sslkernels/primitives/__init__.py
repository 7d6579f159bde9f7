"""The differentiable operations that hold every kernel."""

from .pairwise_logsumexp import pairwise_logsumexp

__all__ = ["pairwise_logsumexp"]
