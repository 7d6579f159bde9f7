"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong.)
"""

import pytest
import torch
from oracle import check_sinkhorn

from sslkernels import prototype_sinkhorn, sinkhorn
from sslkernels.primitives import _prototypes
from sslkernels.primitives.sinkhorn.op import sinkhorn_op


def assert_equals_reference(logits, epsilon=0.3, iterations=3, rows=None):
    expected = sinkhorn(logits.double(), epsilon, iterations, rows=rows, impl="reference")
    ours = sinkhorn(logits, epsilon, iterations, rows=rows, impl="triton")
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [
    (1, 1), (1, 300), (40, 1), (5, 4096), (2, 8193), (70, 257), (2, 20, 130), (4, 1, 5),
    (2, 17, 4200),
], ids=str)  # fmt: skip
def test_as_exact_as_eager(dtype, shape):
    check_sinkhorn("triton", shape, dtype=dtype, draws=2, floor=1e-6)


@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_iterations(iterations):
    check_sinkhorn("triton", (20, 300), iterations=iterations, draws=2, floor=1e-6)


def test_an_epsilon_that_only_the_device_knows():
    logits, epsilon = torch.randn(1, 20, 300), torch.tensor(0.3, dtype=torch.float64)
    found = sinkhorn_op(logits, epsilon, 1.0, 3, None, "triton")
    expected = sinkhorn_op(logits, None, 0.3, 3, None, "triton")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape, integer", [
    ((20, 300), torch.int64), ((2, 20, 4100), torch.int32),
], ids=str)  # fmt: skip
def test_only_the_first_rows_count(shape, integer):
    logits = torch.randn(shape)
    for count in (0, 1, 17, shape[-2], 1000):
        held = logits.clone()
        held[..., count:, :] = float("nan")
        rows = torch.tensor(count, dtype=integer)
        ours = sinkhorn(held, 0.3, rows=rows, impl="triton")
        expected = sinkhorn(logits.double(), 0.3, rows=rows, impl="reference")
        torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


def test_strides():
    x = torch.randn(60, 70)
    assert_equals_reference(x.T)
    assert_equals_reference(x[5:40, 7:60])
    assert_equals_reference(x[:1].expand(20, 70))
    assert_equals_reference(x[::3, ::2])
    assert_equals_reference(x.view(12, 5, 70).transpose(0, 1))


def test_finite_where_the_linear_domain_is_not():
    logits = torch.randn(64, 200)
    logits[0, 0], logits[5, 7] = 3.6, 30
    logits[9] -= 3
    logits[10] -= 60
    logits[:, 11] -= 40
    assert_equals_reference(logits, 0.04)
    assert_equals_reference(logits.half(), 0.04)


def test_nan_and_infinity():
    logits = torch.randn(30, 300)
    logits[:, [7, 299]] = -float("inf")
    for epsilon in (0.05, 0.1, 3.0):
        assert_equals_reference(logits, epsilon)
    for value in ("nan", "inf"):
        logits[4, 3] = float(value)
        once = sinkhorn(logits, iterations=1, impl="triton")
        assert once[3].isnan() and once.isnan().sum() == 1
        assert sinkhorn(logits, iterations=2, impl="triton").isnan().all()


def test_bitwise_repeatable():
    logits = torch.randn(50, 600)
    assert torch.equal(sinkhorn(logits, impl="triton"), sinkhorn(logits, impl="triton"))


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "weights"])
@pytest.mark.parametrize("rows", [None, torch.tensor(13)], ids=["all", "some"])
def test_from_features(monkeypatch, normalised, rows):
    monkeypatch.setitem(_prototypes.CHUNK_BYTES, "cpu", 1)  # several chunks
    features, prototypes = torch.randn(20, 8), torch.randn(300, 8)
    magnitude = 0.5 + torch.rand(300) if normalised else None
    if rows is not None:
        features[rows:] = float("nan")
    arguments = {"magnitude": magnitude, "rows": rows}
    ours = prototype_sinkhorn(features, prototypes, 1.0, impl="triton", **arguments)
    expected = prototype_sinkhorn(features.double(), prototypes.double(), 1.0, **arguments)
    torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=2e-6)
