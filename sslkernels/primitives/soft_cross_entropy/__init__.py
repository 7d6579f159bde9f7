from .api import prototype_cross_entropy, soft_cross_entropy

__all__ = ["prototype_cross_entropy", "soft_cross_entropy"]
