from .api import soft_cross_entropy

__all__ = ["soft_cross_entropy"]
