"""The statistic of random slices, compared with plain torch and float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from oracle import assert_as_exact_as_eager, product, repeated, results
from torch import Tensor

from sslkernels import Quadrature, sliced_epps_pulley

LE_JEPA = Quadrature.trapezoid(33)


def unit_columns(d: int, m: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    """Unit vectors that are exact in every dtype."""
    a = torch.randn(d, m, dtype=torch.float64, device=device)
    return (a / a.norm(dim=0)).bfloat16().to(dtype)


def by_hand(z: Tensor, directions: Tensor, quadrature: Quadrature) -> Tensor:
    """In plain torch, in the inputs' dtype."""
    knots = torch.arange(1, len(quadrature.weights) + 1, device=z.device)
    t = (quadrature.step * knots.double()).to(z.dtype)
    angles = product(z.flatten(0, -2), directions).view(*z.shape[:-1], -1)[..., None] * t
    error = angles.cos().mean(-3) - torch.exp(-t.square() / 2)
    square = error.square() + angles.sin().mean(-3).square()
    return (square @ z.new_tensor(quadrature.weights)) * z.shape[-2]


def check_sliced_epps_pulley(
    impl: str,
    shape: Sequence[int],
    m: int,
    quadrature: Quadrature = LE_JEPA,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    spread: float = 1.0,
) -> None:
    """Random cases against float64: the statistics, and the gradient of a weighted sum of them."""

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        z = (spread * torch.randn(*shape, dtype=torch.float64, device=device)).to(dtype)
        directions = unit_columns(shape[-1], m, device=device)
        weights = [torch.rand(*shape[:-2], m, dtype=torch.float64, device=device)]

        def run(impl: str | None, dtype: torch.dtype) -> list[Tensor]:
            def function(z: Tensor) -> tuple[Tensor]:
                own = directions.to(dtype)
                if impl is None:
                    return (by_hand(z, own, quadrature),)
                return (sliced_epps_pulley(z, own, quadrature, impl=impl),)

            return results(function, [z], dtype, weights)

        return run(impl, dtype), run(None, dtype), run(None, torch.float64)

    assert_as_exact_as_eager(repeated(draw, draws))
