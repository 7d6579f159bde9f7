"""One call of the C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import extension, matrix
from ..._operator import parts
from .problem import CovarianceLoss


def takes(p: CovarianceLoss) -> bool:
    return True


def covariance_loss(p: CovarianceLoss, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """The loss and its derivatives in a and b."""
    derivatives, addresses = parts((p.a, p.b), wanted)
    loss = p.a.new_empty((), dtype=torch.float32)
    how = p.standardized
    extension().covariance_loss(
        matrix(p.a),
        matrix(p.b),
        p.cross,
        how is not None,
        how.numbers() if how else [0.0, 0.0, 0.0],
        p.weights(),
        p.samples,
        torch.get_num_threads(),
        loss.data_ptr(),
        *addresses,
    )
    return loss, derivatives
