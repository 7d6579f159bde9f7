"""Barlow Twins and its kin as one operator on a CPU, on every instruction set."""

import pytest
import torch
from oracle import assert_as_exact_as_eager, repeated, results

from sslkernels import _ext, functional
from sslkernels.primitives.covariance_loss import op

pytestmark = pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
LOSSES = {
    "barlow_twins": functional.barlow_twins,
    "vicreg": functional.vicreg,
    "vibcreg": functional.vibcreg,
}


def eager(name):
    """The loss by the other way: torch, some columns at a time."""
    return lambda a, b: (LOSSES[name](a, b, impl="tiled"),)


def check(name, n, d, dtype=torch.float32, draws=4, constant=()):
    def draw():
        a = torch.randn(n, d) * torch.linspace(0.3, 1.5, d) + 1
        inputs = [x.to(dtype) for x in (a, a + 0.3 * torch.randn(n, d))]
        return tuple(
            results(function, inputs, as_dtype, [torch.ones(())], constant)
            for function, as_dtype in (
                (lambda a, b: (LOSSES[name](a, b, impl="cpu"),), dtype),
                (eager(name), dtype),
                (eager(name), torch.float64),
            )
        )

    assert_as_exact_as_eager(repeated(draw, draws), floor=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n, d", [(3, 2), (10, 50), (70, 24), (130, 129), (300, 65), (90, 700)])
@pytest.mark.parametrize("name", LOSSES)
def test_as_exact_as_torch(name, n, d, dtype):
    check(name, n, d, dtype)


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
@pytest.mark.parametrize("name", LOSSES)
def test_instruction_sets(isa, name):
    sets = _ext.extension().instruction_sets()
    if isa not in sets:
        pytest.skip(f"this processor or build has no {isa}")
    _ext.extension().use_instruction_set(isa)
    try:
        check(name, 70, 37, draws=2)
        check(name, 40, 203, draws=2)
    finally:
        _ext.extension().use_instruction_set(sets[0])


@pytest.mark.parametrize("constant", [(0,), (1,)])
@pytest.mark.parametrize("n, d", [(60, 30), (30, 60)])
@pytest.mark.parametrize("name", LOSSES)
def test_only_the_wanted_gradient(name, n, d, constant):
    check(name, n, d, draws=2, constant=constant)


def test_beyond_the_workspace_it_is_many_operators(monkeypatch):
    a, b = (torch.randn(50, 20) for _ in range(2))
    inside = functional.barlow_twins(a, b)
    monkeypatch.setattr(op, "WORKSPACE", 0)
    torch.testing.assert_close(functional.barlow_twins(a, b), inside)
