"""The results of every implementation for rows and columns, and their effect on the centre."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOTHING = -1e30  # maximum of an empty set: e^(-inf - NOTHING) is 0, not NaN


class LogSum(NamedTuple):
    """log Σ e^x as the maximum of x and Σ e^(x - maximum)."""

    maximum: Tensor
    total: Tensor

    def log(self) -> Tensor:
        return self.maximum + self.total.log()


def log_sum(x: Tensor, dim: int) -> LogSum:
    """Over one dimension of x, which is overwritten."""
    maximum = x.amax(dim, keepdim=True).clamp_min(NOTHING)
    return LogSum(maximum.squeeze(dim), x.sub_(maximum).exp_().sum(dim))


def combine(parts: LogSum) -> LogSum:
    """Merge the sums that are stacked in the first dimension."""
    if len(parts.maximum) == 1:
        return LogSum(*(part[0] for part in parts))
    maximum = parts.maximum.amax(0)
    return LogSum(maximum, (parts.total * torch.exp(parts.maximum - maximum)).sum(0))


def merge(a: LogSum, b: LogSum) -> LogSum:
    """Merge two sums."""
    return combine(LogSum(*(torch.stack(pair) for pair in zip(a, b, strict=True))))


def moved(center: Tensor | float, log_mass: Tensor, epsilon: float | Tensor) -> Tensor:
    """The centre that removes the masses of the prototypes; 0 for prototypes without mass."""
    center = center + epsilon * log_mass
    return center.masked_fill(torch.isneginf(center), 0)


def largest(log_mass: Tensor) -> Tensor:
    """The reference of the next masses: at the end, log of samples per prototype.

    Without it, each iteration would add as much to the centre.
    """
    return log_mass.amax(-1, keepdim=True).clamp_min(NOTHING)
