from .api import offdiagonal_norm
from .columns import Standardized

__all__ = ["Standardized", "offdiagonal_norm"]
