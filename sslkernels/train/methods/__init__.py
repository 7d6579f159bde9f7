"""Self-supervised methods, one file each.

A method is an ``nn.Module`` with a ``backbone``; ``method(*views)`` returns the loss and the
embeddings it was computed from.
"""

from .simclr import SimCLR, SimCLRRecipe

__all__ = ["SimCLR", "SimCLRRecipe"]
