from .api import nearest_neighbor

__all__ = ["nearest_neighbor"]
