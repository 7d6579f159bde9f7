import math

import pytest
import torch
from peak_memory import printed
from slices import LE_JEPA, check_sliced_epps_pulley, unit_columns

from sslkernels import Quadrature, _ext, sliced_epps_pulley

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BCS = Quadrature.trapezoid(10)

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def test_reference_is_the_integral():
    """For one sample x: ∫ (1 + e^(−t²) − 2 cos(t x) e^(−t²/2)) e^(−t²/2) dt, in closed form."""
    z = torch.tensor([[0.7]], dtype=torch.float64)
    fine = Quadrature.trapezoid(4001, 12.0)
    found = sliced_epps_pulley(z, torch.ones(1, 1, dtype=torch.float64), fine, impl="reference")
    root = math.sqrt(2 * math.pi)
    closed = root * (1 + 1 / math.sqrt(3) - math.sqrt(2) * math.exp(-(0.7**2) / 4))
    assert found.item() == pytest.approx(closed, rel=1e-12)


def test_quadratures_of_published_code():
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    weights = torch.full_like(t, 2 * 3 / 16) * torch.exp(-t.square() / 2)
    weights[-1] /= 2
    assert LE_JEPA.step == 3 / 16
    torch.testing.assert_close(torch.tensor(LE_JEPA.weights).double(), weights[1:])
    assert BCS.step == pytest.approx(1 / 3) and len(BCS.weights) == 9
    assert not any(BCS.weights[1::2]) and all(BCS.weights[::2])
    assert sum(BCS.weights) == pytest.approx(
        float(torch.trapezoid(torch.exp(-((x := torch.linspace(-3, 3, 10).double()) ** 2) / 2), x))
    )


@each_implementation
def test_float64_and_float32_of_other_shapes_of_samples(impl):
    z, a = torch.randn(2, 3, 20, 5, dtype=torch.float64), unit_columns(5, 7)
    expected = sliced_epps_pulley(z, a, impl="reference")
    assert expected.shape == (2, 3, 7)
    found = sliced_epps_pulley(z, a)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    single = sliced_epps_pulley(z.float(), a.float(), impl=impl)
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-6)
    one = sliced_epps_pulley(z[1, 2].float(), a.float(), impl=impl)
    torch.testing.assert_close(one, single[1, 2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "quadrature",
    [LE_JEPA, BCS, Quadrature(0.7, (1.0, -2.0))],
    ids=lambda q: f"{len(q.weights)} knots",
)
def test_float64(quadrature):
    z, a = torch.randn(3, 90, 12, dtype=torch.float64, requires_grad=True), unit_columns(12, 31)
    weights = torch.randn(3, 31, dtype=torch.float64)
    found, exact = (sliced_epps_pulley(z, a, quadrature, impl=x) for x in ("auto", "reference"))
    gradients = [torch.autograd.grad((x * weights).sum(), z)[0] for x in (found, exact)]
    for x, y in ((found, exact), gradients):
        assert (x - y).norm() <= 1e-12 * y.norm()


@each_implementation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("quadrature", [LE_JEPA, BCS], ids=["LeJEPA", "BCS"])
def test_as_exact_as_eager(impl, dtype, quadrature):
    check_sliced_epps_pulley(impl, (3, 200, 48), 150, quadrature, dtype, draws=8)


@each_implementation
@pytest.mark.parametrize("shape, m", [
    ((1, 1), 1), ((2, 1, 3), 2), ((1, 7, 5), 65), ((2, 97, 1), 64), ((3, 96, 130), 17),
    ((1, 191, 16), 63), ((5, 6, 300), 129), ((1, 1500, 4), 3),
])  # fmt: skip
def test_ragged_shapes(impl, shape, m):
    check_sliced_epps_pulley(impl, shape, m, draws=4)


@pytest.mark.parametrize("quadrature", [
    LE_JEPA, BCS, Quadrature.trapezoid(2), Quadrature.trapezoid(3), Quadrature.trapezoid(8, 5.0),
    Quadrature.trapezoid(129), Quadrature.trapezoid(131), Quadrature(0.3, (1.0, -2.0, 0.5)),
], ids=lambda q: f"{len(q.weights)} knots")  # fmt: skip
def test_instruction_sets(instruction_set, quadrature):
    check_sliced_epps_pulley("cpu", (2, 130, 33), 70, quadrature, draws=4)
    check_sliced_epps_pulley("cpu", (2, 130, 33), 70, quadrature, torch.bfloat16, draws=1)


@each_implementation
def test_projections_of_any_size(impl):
    """Angles up to 3e4 have float32's precision, larger ones are finite; eager rounds each."""
    check_sliced_epps_pulley(impl, (2, 400, 8), 30, spread=1e4, draws=2)
    z = torch.full((1, 4, 2), 1e30)
    z[0, 1] *= -1
    found = sliced_epps_pulley(z.requires_grad_(), unit_columns(2, 3).float(), impl=impl)
    assert found.isfinite().all() and torch.autograd.grad(found.sum(), z)[0].isfinite().all()


@each_implementation
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_is_not_hidden(impl, value):
    z = torch.randn(2, 40, 8)
    z[1, 7, 3] = value
    found = sliced_epps_pulley(z, unit_columns(8, 20).float(), impl=impl)
    assert found[0].isfinite().all()
    if value != value:
        assert found[1].isnan().all()


@each_implementation
def test_strides(impl):
    z, a = torch.randn(6, 50, 18), unit_columns(9, 40).float()
    for view in (z[:, ::2, ::2], z[::3, :, :9], z[:, :9].mT, z[:1, :, 3:12].expand(4, -1, -1)):
        expected = sliced_epps_pulley(view.contiguous(), a, impl=impl)
        assert torch.equal(sliced_epps_pulley(view, a, impl=impl), expected)
        across = a.T.contiguous().T
        torch.testing.assert_close(sliced_epps_pulley(view, across, impl=impl), expected)


@each_implementation
def test_repeats_bit_for_bit(impl):
    z, a = torch.randn(3, 300, 20, requires_grad=True), unit_columns(20, 90).float()
    found = [sliced_epps_pulley(z, a, impl=impl) for _ in range(2)]
    gradients = [torch.autograd.grad(x.mean(), z)[0] for x in found]
    assert torch.equal(*found) and torch.equal(*gradients)


def test_many_threads_share_few_slices():
    z, a = torch.randn(1, 700, 20, requires_grad=True), unit_columns(20, 5).float()
    threads = torch.get_num_threads()
    results = []
    for count in (1, 7):
        torch.set_num_threads(count)
        loss = sliced_epps_pulley(z, a)
        results.append((loss, *torch.autograd.grad(loss.mean(), z)))
    torch.set_num_threads(threads)
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


def test_no_projections_are_stored():
    """Those of 8 × 20,000 samples on 2,048 slices would be 1.2 GiB, times 17 knots 21 GiB."""
    code = """
a = torch.nn.functional.normalize(torch.randn(16, 2048), dim=0)
z = torch.randn(8, 20000, 16, requires_grad=True)
sliced_epps_pulley(z[:, :100], a, impl="cpu").mean().backward()
before = peak()
sliced_epps_pulley(z, a, impl="cpu").mean().backward()
print(peak() - before)
"""
    if _ext.HAS_EXTENSION:
        assert printed(code, [{}])[0] < 48


def test_compile_with_changing_shapes():
    torch.compiler.reset()

    def loss(z, a):
        return sliced_epps_pulley(z, a, LE_JEPA).mean()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for n, m in ((20, 30), (31, 17)):
        z, a = torch.randn(2, n, 8, requires_grad=True), unit_columns(8, m).float()
        x, y = compiled(z, a), loss(z, a)
        torch.testing.assert_close(x, y)
        torch.testing.assert_close(*(torch.autograd.grad(v, z)[0] for v in (x, y)))


def test_bad_arguments():
    z, a = torch.randn(4, 3), torch.randn(3, 5)
    with pytest.raises(ValueError, match="no gradient: give directions.detach"):
        sliced_epps_pulley(z, a.requires_grad_())
    with torch.no_grad():
        sliced_epps_pulley(z, a)
    a = a.detach()
    with pytest.raises(ValueError, match=r"\(D, M\) with D = 3"):
        sliced_epps_pulley(z, a.T)
    with pytest.raises(TypeError, match="one dtype, got torch.float32 and torch.float64"):
        sliced_epps_pulley(z, a.double())
    for weights in ((), (1.0,) * 5000):
        with pytest.raises(ValueError, match="weights must be 1 to 4096"):
            Quadrature(0.1, weights)
    with pytest.raises(ValueError, match="points must be"):
        Quadrature.trapezoid(1)
    with pytest.raises(ValueError, match="step must be above 0"):
        Quadrature(0.0, (1.0,))
