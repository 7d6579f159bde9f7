"""Plots, made with matplotlib."""

from .depth import plot_depth
from .embedding_map import plot_embedding_map
from .spectrum import plot_spectrum
from .training import plot_training
from .views import plot_views

__all__ = ["plot_depth", "plot_embedding_map", "plot_spectrum", "plot_training", "plot_views"]
