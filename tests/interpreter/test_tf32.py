"""Float32 on tensor cores: they truncate operands to TF32 unless these are rounded first."""

import numpy as np
import pytest
import torch
from oracle import (
    check_nearest_neighbor,
    check_offdiagonal_norm,
    check_pairwise_logsumexp,
    check_pairwise_softplus,
    rounded,
)
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from sslkernels.primitives._triton import operand


@pytest.fixture(autouse=True)
def tensor_cores(monkeypatch):
    """Emulates them in the interpreter, which otherwise multiplies in full precision."""
    multiply = InterpreterBuilder.create_dot

    def cut(x):
        data = (x.data.view(np.int32) & -0x2000).view(np.float32)
        return TensorHandle(data, x.dtype.scalar)

    def create_dot(self, a, b, d, input_precision, *rest):
        if "TF32" in str(input_precision) and a.data.dtype == np.float32:
            a, b = cut(a), cut(b)
        return multiply(self, a, b, d, input_precision, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def test_operands_are_padded_and_rounded():
    x = torch.randn(37, 50)[:, 3:40] * torch.tensor([1e-30, 1.0, 1e30]).repeat(13)[:37]
    x[2, 5], x[4, 6], x[5, 7] = float("inf"), -float("inf"), float("nan")
    x[6, 8] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # as CUDA makes NaN
    found = operand(x)
    assert found.shape == (37, 48) and (found[:, 37:] == 0).all()
    finite = x.isfinite()
    assert torch.equal(found[:, :37][finite], rounded(x)[finite])
    assert torch.equal(found[:, :37].isnan(), x.isnan())
    assert torch.equal(found[:, :37][x.isinf()], x[x.isinf()])


@pytest.mark.parametrize("d", [20, 64])
@pytest.mark.parametrize("m, scale", [(None, 5.0), (90, 60.0)])
def test_pairwise_logsumexp(d, m, scale):
    check_pairwise_logsumexp("triton", 140, m, d, scale, (0,) if m is None else (), draws=4)


def test_pairwise_softplus():
    check_pairwise_softplus("triton", 140, 90, 33, 10.0, -5.0, draws=4)


def test_nearest_neighbor():
    check_nearest_neighbor("triton", 140, 90, 33, draws=4)


@pytest.mark.parametrize("symmetric", [True, False])
def test_offdiagonal_norm(symmetric):
    check_offdiagonal_norm("triton", 150, 40, "standardized", symmetric, "feature", draws=6)
