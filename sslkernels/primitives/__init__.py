"""The operations that hold every kernel."""

from .nearest_neighbor import nearest_neighbor
from .pairwise_logsumexp import pairwise_logsumexp

__all__ = ["nearest_neighbor", "pairwise_logsumexp"]
