"""Barlow Twins and related losses as one operator on a CPU, on every instruction set."""

import pytest
import torch
from covariance_problems import LOSSES, check

from sslkernels import _ext, functional
from sslkernels.primitives.covariance_loss import op

pytestmark = pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")


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
