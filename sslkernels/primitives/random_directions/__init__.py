from .api import random_directions

__all__ = ["random_directions"]
