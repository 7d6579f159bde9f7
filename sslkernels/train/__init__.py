"""Training: ``python -m sslkernels.train simclr``, or the same pieces from Python."""

from .evaluate import embedding_spread, encode, knn_accuracy
from .grad_cache import GradCache
from .loop import train
from .recipe import Recipe

__all__ = ["GradCache", "Recipe", "embedding_spread", "encode", "knn_accuracy", "train"]
