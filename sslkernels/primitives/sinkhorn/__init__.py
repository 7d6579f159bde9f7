from .api import sinkhorn

__all__ = ["sinkhorn"]
