"""Training: ``python -m sslkernels.train simclr``, or the same from Python."""

from .grad_cache import GradCache
from .loop import Stopped, train
from .recipe import Recipe
from .run import Run, load_run

__all__ = ["GradCache", "Recipe", "Run", "Stopped", "load_run", "train"]
