"""The operations, by name."""

from . import contrastive_cases, covariance_cases, distillation_cases, gaussian_cases
from .case import Case, Shape, leaves

__all__ = ["CASES", "Case", "Shape", "leaves"]

CASES: dict[str, Case] = (
    contrastive_cases.CASES
    | covariance_cases.CASES
    | distillation_cases.CASES
    | gaussian_cases.CASES
)
