"""The implementations, by operation and name: ours and others'."""

from . import (
    contrastive_baselines,
    covariance_baselines,
    distillation_baselines,
    gaussian_baselines,
)
from .baseline import Baseline, Loss

__all__ = ["BASELINES", "Baseline", "Loss"]

BASELINES: dict[str, dict[str, Baseline]] = (
    contrastive_baselines.BASELINES
    | covariance_baselines.BASELINES
    | distillation_baselines.BASELINES
    | gaussian_baselines.BASELINES
)
