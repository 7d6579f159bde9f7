"""The differentiable operations that hold every kernel."""

from .pairwise_logsumexp import pairwise_logsumexp
from .pairwise_softplus import pairwise_softplus

__all__ = ["pairwise_logsumexp", "pairwise_softplus"]
