from .api import norms_of_views, offdiagonal_norm
from .columns import Standardized

__all__ = ["Standardized", "norms_of_views", "offdiagonal_norm"]
