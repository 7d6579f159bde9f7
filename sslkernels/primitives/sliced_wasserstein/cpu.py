"""The C++ kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._ext import extension, matrix
from ..._operator import parts
from .quantiles import quantiles

MOST_ROWS = 2**31 - 2**16  # of a set, counted in 32 bits


def sliced_wasserstein(z: Tensor, directions: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The value, and if ``wanted`` the gradient of z (V, N, D), flattened."""
    if z.shape[1] > MOST_ROWS:
        raise ValueError(
            f"impl='cpu' takes sets z of at most {MOST_ROWS} samples, got {z.shape[1]}; use "
            "impl='tiled'"
        )
    gradient, (address,) = parts((z,), (wanted,))
    loss = z.new_empty((), dtype=torch.float32)
    targets = quantiles(z)
    extension().sliced_wasserstein(
        [matrix(x) for x in z.unbind()],
        matrix(directions),
        targets.data_ptr(),
        torch.get_num_threads(),
        loss.data_ptr(),
        address,
    )
    return loss, gradient
