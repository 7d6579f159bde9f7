"""Matrices with known spectra."""

from __future__ import annotations

import torch
from torch import Tensor


def with_singular_values(n: int, d: int, values: Tensor, seed: int = 0) -> Tensor:
    """(n, d) float64 with these singular values, in random directions, of mean 0."""
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(rows: int, centered: bool) -> Tensor:
        x = torch.randn(rows, len(values), dtype=torch.float64, generator=generator)
        return torch.linalg.qr(x - x.mean(0) if centered else x)[0]

    return orthonormal(n, True) * values.double() @ orthonormal(d, False).T
