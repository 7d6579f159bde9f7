from .api import prototype_cross_entropy, soft_cross_entropy
from .problem import Pairs

__all__ = ["Pairs", "prototype_cross_entropy", "soft_cross_entropy"]
