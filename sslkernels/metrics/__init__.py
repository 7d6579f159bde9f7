"""What frozen features are worth: numbers, from features (n, d)."""

from .collapse import embedding_spread
from .encode import encode
from .knn import knn_accuracy

__all__ = ["embedding_spread", "encode", "knn_accuracy"]
