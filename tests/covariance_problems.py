"""Losses of covariances, compared with the same losses from other operators."""

import torch
from oracle import assert_as_exact_as_eager, repeated, results

from sslkernels import functional

LOSSES = {
    "barlow_twins": functional.barlow_twins,
    "vicreg": functional.vicreg,
    "vibcreg": functional.vibcreg,
}


def eager(name):
    """The loss from torch operators, some columns at a time."""
    return lambda a, b: (LOSSES[name](a, b, impl="tiled"),)


def check(name, n, d, dtype=torch.float32, draws=4, constant=(), impl="cpu", device="cpu"):
    def draw():
        a = torch.randn(n, d, device=device) * torch.linspace(0.3, 1.5, d, device=device) + 1
        inputs = [x.to(dtype) for x in (a, a + 0.3 * torch.randn_like(a))]
        return tuple(
            results(function, inputs, as_dtype, [torch.ones((), device=device)], constant)
            for function, as_dtype in (
                (lambda a, b: (LOSSES[name](a, b, impl=impl),), dtype),
                (eager(name), dtype),
                (eager(name), torch.float64),
            )
        )

    assert_as_exact_as_eager(repeated(draw, draws), floor=2e-6)
