from .api import pairwise_softplus

__all__ = ["pairwise_softplus"]
