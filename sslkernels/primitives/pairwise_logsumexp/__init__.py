from .api import pairwise_logsumexp

__all__ = ["pairwise_logsumexp"]
