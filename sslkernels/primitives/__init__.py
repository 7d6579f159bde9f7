"""The operations that hold every kernel."""

from .nearest_neighbor import nearest_neighbor
from .pairwise_logsumexp import pairwise_logsumexp
from .pairwise_softplus import pairwise_softplus

__all__ = ["nearest_neighbor", "pairwise_logsumexp", "pairwise_softplus"]
