"""Training: ``python -m sslkernels.train simclr``, or the same pieces from Python."""

from .evaluate import embedding_spread, encode, knn_accuracy
from .loop import train
from .recipe import Recipe

__all__ = ["Recipe", "embedding_spread", "encode", "knn_accuracy", "train"]
