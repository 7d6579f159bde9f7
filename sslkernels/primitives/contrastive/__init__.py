from .api import contrastive_loss, contrastive_rows
from .problem import Contrastive

__all__ = ["Contrastive", "contrastive_loss", "contrastive_rows"]
