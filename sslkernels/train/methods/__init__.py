"""Self-supervised methods, one file each.

A method is an ``nn.Module`` with a ``backbone``; ``method(*views)`` returns a tuple of embeddings,
and ``method.loss(*embeddings)`` is what training lowers.
"""

from .simclr import SimCLR, SimCLRRecipe

__all__ = ["SimCLR", "SimCLRRecipe"]
