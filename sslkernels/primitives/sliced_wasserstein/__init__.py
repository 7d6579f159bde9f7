from .api import sliced_wasserstein

__all__ = ["sliced_wasserstein"]
