from .op import fused
from .problem import CovarianceLoss

__all__ = ["CovarianceLoss", "fused"]
