"""Implementations of the covariance losses: each a function of the inputs."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import functional

from .baseline import Baseline, Loss, everywhere
from .covariance_cases import LAMBDA
from .peers import lightly_loss


def barlow_twins_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.barlow_twins, lambda_param=LAMBDA, impl=impl)


def barlow_twins_eager(temperature: float) -> Loss:
    def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
        a, b = (F.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
        c = a.T @ b / len(a)
        diagonal = c.diagonal()
        redundancy = (c - torch.diag(diagonal)).square().sum()
        return (diagonal - 1).square().sum() + LAMBDA * redundancy

    return loss


def barlow_twins_gram(temperature: float) -> Loss:
    """Σ C² = ⟨AAᵀ, BBᵀ⟩ / N², in plain torch."""

    def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
        a, b = (F.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
        diagonal = (a * b).sum(0) / len(a)
        total = ((a @ a.T) * (b @ b.T)).sum() / len(a) ** 2
        redundancy = total - diagonal.square().sum()
        return (diagonal - 1).square().sum() + LAMBDA * redundancy

    return loss


def barlow_twins_lightly(temperature: float) -> Loss:
    return lightly_loss("BarlowTwinsLoss")(LAMBDA)


def vicreg_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.vicreg, impl=impl)


def vicreg_eager(temperature: float) -> Loss:
    def covariance(z: Tensor) -> Tensor:
        c = z.T @ z / (len(z) - 1)
        return (c - torch.diag(c.diagonal())).square().sum() / z.shape[1]

    return _vicreg_with(covariance)


def vicreg_gram(temperature: float) -> Loss:
    """Σ C² = ‖ZZᵀ‖² / (N − 1)², in plain torch."""

    def covariance(z: Tensor) -> Tensor:
        total = (z @ z.T).square().sum() - z.square().sum(0).square().sum()
        return total / ((len(z) - 1) ** 2 * z.shape[1])

    return _vicreg_with(covariance)


def _vicreg_with(covariance: Loss) -> Loss:
    def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
        value = 25 * F.mse_loss(z_a, z_b)
        for z in (z_a, z_b):
            hinge = F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
            value = value + 12.5 * hinge + covariance(z - z.mean(0))
        return value

    return loss


def vicreg_lightly(temperature: float) -> Loss:
    return lightly_loss("VICRegLoss")()


BASELINES: dict[str, dict[str, Baseline]] = {
    "barlow_twins": everywhere(
        "functional.barlow_twins", barlow_twins_ours, barlow_twins_eager, 4.5, 3, has_cuda=False
    )
    | {
        "gram": Baseline(barlow_twins_gram, "the identity of Gram matrices, in plain torch"),
        "lightly": Baseline(barlow_twins_lightly, "lightly.loss.BarlowTwinsLoss", 4.25),
    },
    "vicreg": everywhere("functional.vicreg", vicreg_ours, vicreg_eager, 4.5, 3, has_cuda=False)
    | {
        "gram": Baseline(vicreg_gram, "the identity of Gram matrices, in plain torch"),
        "lightly": Baseline(vicreg_lightly, "lightly.loss.VICRegLoss", 8),
    },
}
