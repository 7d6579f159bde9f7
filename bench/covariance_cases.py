"""The benchmark cases of the covariance losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .case import Case, Shape, WholeCase, grid, two_views

LAMBDA = 5e-3  # of barlow_twins


@dataclass(frozen=True)
class Features:
    """Two views, n rows of d features; their d × d products through the smaller side."""

    n: int
    d: int

    def entries(self) -> int:
        return self.d**2

    def flops(self, device: str) -> dict[str, int]:
        """Two products of a matrix with its own transpose, which are symmetric (for Barlow Twins
        with N > D: one that is not), then one product per gradient."""
        product = self.n * self.d * min(self.n, self.d)
        return {"fwd": 2 * product, "bwd": 4 * product}

    def exps(self, device: str) -> dict[str, int]:
        return {"fwd": 0, "bwd": 0}

    def bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """Both views read, both gradients written."""
        operands = 2 * self.n * self.d * dtype.itemsize
        return {"fwd": operands, "bwd": 2 * operands}

    def describe(self, device: str) -> str:
        return "FLOPs fwd 2·nd·min(n, d), bwd 4·nd·min(n, d)"


def _offdiagonal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{i≠j} (AᵀB)²_ij and the diagonal, through the smaller matrix."""
    diagonal = (a * b).sum(0)
    if len(a) < a.shape[1]:
        return ((a @ a.T) * (b @ b.T)).sum() - diagonal.square().sum(), diagonal
    product = a.T @ b
    return (product - torch.diag(product.diagonal())).square().sum(), diagonal


def _barlow_twins(z_a: Tensor, z_b: Tensor) -> Tensor:
    a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z_a, z_b))
    square, diagonal = _offdiagonal(a, b)
    return (diagonal / len(a) - 1).square().sum() + LAMBDA * square / len(a) ** 2


def _vicreg(z_a: Tensor, z_b: Tensor) -> Tensor:
    n, d = z_a.shape
    loss = 25 * F.mse_loss(z_a, z_b)
    for z in (z_a, z_b):
        centered = z - z.mean(0)
        square, _ = _offdiagonal(centered, centered)
        hinge = F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
        loss = loss + 12.5 * hinge + square / ((n - 1) ** 2 * d)
    return loss


def _features(shape: Shape) -> Features:
    return Features(*shape)


def _narrow_views(
    shape: Shape, dtype: torch.dtype, device: str, temperature: float
) -> list[Tensor]:
    """Views with standard deviations on both sides of the hinge."""
    scale = torch.linspace(0.3, 1.2, shape[1])
    views = two_views(shape, torch.float32, "cpu")
    return [(x.detach() * scale).to(device, dtype).requires_grad_() for x in views]


SHAPES = {
    "cpu": ((256, 2048), (256, 8192), (4096, 2048)),
    "cuda": grid((256, 1024, 4096), 2048, 8192, 32768),
    "quick": ((64, 512),),
}

CASES: dict[str, Case] = {
    "barlow_twins": WholeCase(
        shape_meaning="N rows x D features, two views; n = N, d = D",
        shapes=SHAPES,
        make_inputs=two_views,
        work=_features,
        loss=_barlow_twins,
    ),
    "vicreg": WholeCase(
        shape_meaning="N rows x D features, two views; n = N, d = D",
        shapes=SHAPES,
        make_inputs=_narrow_views,
        work=_features,
        loss=_vicreg,
    ),
}
