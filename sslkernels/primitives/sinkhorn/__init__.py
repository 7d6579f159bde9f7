from .api import prototype_sinkhorn, sinkhorn

__all__ = ["prototype_sinkhorn", "sinkhorn"]
