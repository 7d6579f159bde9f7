"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong.)
"""

import pytest
import torch
from slices import check_sliced_epps_pulley, unit_columns

from sslkernels import Quadrature, sliced_epps_pulley
from sslkernels.primitives.sliced_epps_pulley import triton

QUADRATURES = [Quadrature.trapezoid(33), Quadrature.trapezoid(10), Quadrature.trapezoid(45, 5.0)]


@pytest.fixture(params=["fused", "by weights"])
def route(request, monkeypatch):
    """The gradient from one kernel, as with tensor cores; or through weights of directions."""
    monkeypatch.setattr(triton, "tensor_cores", lambda x: request.param == "fused")


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("quadrature", QUADRATURES, ids=lambda q: f"{len(q.weights)} knots")
def test_as_exact_as_eager(dtype, quadrature):
    check_sliced_epps_pulley("triton", (2, 70, 33), 70, quadrature, dtype, draws=2)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("shape, m", [
    ((1, 9, 1), 1), ((3, 5, 16), 3), ((2, 130, 7), 65), ((1, 65, 130), 64), ((2, 33, 260), 10),
])  # fmt: skip
def test_ragged_shapes(shape, m):
    check_sliced_epps_pulley("triton", shape, m, draws=4)


def test_one_sample():
    """Its gradient is a difference of large terms, which eager computes alike in both passes."""
    z, a = torch.randn(3, 1, 5), unit_columns(5, 7).float()
    results = []
    for impl in ("triton", "reference"):
        x = z.double() if impl == "reference" else z.clone()
        value = sliced_epps_pulley(x.requires_grad_(), a.to(x.dtype), impl=impl)
        results.append((value, *torch.autograd.grad(value.mean(), x)))
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-7)


def test_many_samples_are_split(monkeypatch):
    monkeypatch.setattr(triton, "MOST_SAMPLES", 64)
    check_sliced_epps_pulley("triton", (2, 300, 8), 20, draws=2)


def test_weights_in_chunks(monkeypatch):
    monkeypatch.setattr(triton, "WORKSPACE", 1)
    check_sliced_epps_pulley("triton", (3, 40, 300), 20, dtype=torch.float16, draws=1)


@pytest.mark.usefixtures("route")
def test_gradients_of_any_size():
    """Incoming gradients differ by 1e12, and all are outside of float16's range."""
    z, a = torch.randn(2, 40, 8, dtype=torch.float16), unit_columns(8, 20).half()
    for size in (1e-9, 1e9):
        weights = size * torch.tensor([[1.0], [1e-3]]).expand(2, 20)
        ours, exact = (
            torch.autograd.grad((sliced_epps_pulley(x, y, impl=impl) * weights).sum(), x)[0]
            for impl, x, y in (
                ("triton", z.float().requires_grad_(), a.float()),
                ("reference", z.double().requires_grad_(), a.double()),
            )
        )
        assert (ours - exact).norm() <= 1e-5 * exact.norm()
    z.requires_grad_()
    small = torch.autograd.grad(sliced_epps_pulley(z, a, impl="triton").mean() * 1e-3, z)[0]
    assert small.abs().max() > 0


def test_strides_and_not_finite():
    z, a = torch.randn(6, 50, 36), unit_columns(9, 40).float()
    for view in (z[:, ::2, ::4], z[::3, :, :9], z[:, :9].mT, z[:1, :, 3:12].expand(4, -1, -1)):
        expected = sliced_epps_pulley(view.contiguous(), a, impl="triton")
        assert torch.equal(sliced_epps_pulley(view, a, impl="triton"), expected)
    z = torch.full((2, 4, 2), 1e30)
    z[1, 2] = float("nan")
    found = sliced_epps_pulley(z, unit_columns(2, 3).float(), impl="triton")
    assert found[0].isfinite().all() and found[1].isnan().all()
