"""The operations with kernels, on which the losses are built."""

from .augment_views import RaggedImages, augment_views, source_coordinates
from .nearest_neighbor import nearest_neighbor
from .offdiagonal_norm import Standardized, offdiagonal_norm
from .pairwise_logsumexp import pairwise_logsumexp
from .pairwise_softplus import pairwise_softplus
from .random_directions import random_directions
from .sinkhorn import prototype_sinkhorn, sinkhorn
from .sliced_epps_pulley import Quadrature, sliced_epps_pulley
from .sliced_wasserstein import sliced_wasserstein
from .soft_cross_entropy import prototype_cross_entropy, soft_cross_entropy

__all__ = [
    "Quadrature",
    "RaggedImages",
    "Standardized",
    "augment_views",
    "nearest_neighbor",
    "offdiagonal_norm",
    "pairwise_logsumexp",
    "pairwise_softplus",
    "prototype_cross_entropy",
    "prototype_sinkhorn",
    "random_directions",
    "sinkhorn",
    "sliced_epps_pulley",
    "sliced_wasserstein",
    "soft_cross_entropy",
    "source_coordinates",
]
