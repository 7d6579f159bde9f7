import math
from statistics import NormalDist

import pytest
import torch
from oracle import assert_as_exact_as_eager, repeated, results
from peak_memory import printed

from sslkernels import _ext, random_directions, sliced_wasserstein

CPU = pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CLOSE = 2e-6  # distance below which float32 may swap projections; both orders are right

each_implementation = pytest.mark.parametrize("impl", ["tiled", CPU])


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def eager(z, directions):
    """In plain torch, in the inputs' dtype."""
    count = z.shape[-2]
    places = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    targets = torch.special.ndtri(places).to(z.dtype)[:, None]
    return ((z @ directions).sort(-2).values - targets).square().mean()


def separated(shape, slices, dtype):
    """Samples (…, N, D), and directions on which no two samples of a set are close."""
    z = torch.randn(shape, dtype=torch.float64)
    z = (0.5 + z * torch.linspace(0.3, 2, shape[-1])).to(dtype)
    found = []
    while sum(x.shape[1] for x in found) < slices:
        directions = torch.randn(shape[-1], slices, dtype=torch.float64)
        directions = (directions / directions.norm(dim=0)).to(dtype)
        gaps = (z.double() @ directions.double()).sort(-2).values.diff(dim=-2)
        apart = (gaps > CLOSE * (1 + z.double().norm(dim=-1).max())).flatten(0, -2).all(0)
        found.append(directions[:, apart])
    return z, torch.cat(found, 1)[:, :slices].contiguous()


def check(impl, shape, slices, dtype=torch.float32, draws=4, layout=lambda z, a: (z, a)):
    def draw():
        inputs = separated(shape, slices, dtype)

        def run(function, dtype):
            weights = [torch.tensor(1.0, dtype=torch.float64)]
            return results(
                lambda z, a: (function(*layout(z, a)),), inputs, dtype, weights, constant=(1,)
            )

        return (
            run(lambda z, a: sliced_wasserstein(z, a, impl=impl), dtype),
            run(eager, dtype),
            run(lambda z, a: sliced_wasserstein(z, a, impl="reference"), torch.float64),
        )

    assert_as_exact_as_eager(repeated(draw, draws))


def test_reference_is_the_definition():
    z, directions = separated((2, 5, 3), 4, torch.float64)
    normal, total = NormalDist(), 0.0
    for samples in z:
        for direction in directions.T:
            projections = sorted(float(x @ direction) for x in samples)
            for i, p in enumerate(projections, 1):
                total += (p - normal.inv_cdf(i / 6)) ** 2 / (2 * 4 * 5)
    assert sliced_wasserstein(z, directions, impl="reference").item() == pytest.approx(total)


@pytest.mark.parametrize("shape, slices", [
    ((1, 1), 1), ((1, 3), 5), ((40, 7), 30), ((3, 50, 20), 70), ((2, 300, 5), 9), ((4, 2, 6, 3), 8),
])  # fmt: skip
def test_float64_is_the_reference(shape, slices, monkeypatch):
    from sslkernels.primitives.sliced_wasserstein import tiled

    z, directions = torch.randn(shape).double(), torch.randn(shape[-1], slices).double()
    z.requires_grad_()
    exact = sliced_wasserstein(z, directions, impl="reference")
    expected = torch.autograd.grad(exact, z)
    for workspace in (tiled.WORKSPACE, 1 << 14, 1):
        monkeypatch.setattr(tiled, "WORKSPACE", workspace)
        loss = sliced_wasserstein(z, directions)
        assert loss.dtype == torch.float64 and loss.shape == ()
        torch.testing.assert_close(loss, exact, rtol=1e-10, atol=1e-10)
        found = torch.autograd.grad(loss, z)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@each_implementation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape, slices", [
    ((64, 33), 50), ((5, 40, 16), 130), ((2, 257, 48), 140),
])  # fmt: skip
def test_as_exact_as_eager(impl, dtype, shape, slices):
    check(impl, shape, slices, dtype)


@each_implementation
@pytest.mark.parametrize("shape, slices", [
    ((1, 1), 1), ((1, 1, 300), 3), ((4, 1, 5), 7), ((2, 3), 1), ((7, 2), 17), ((3, 8, 1), 5),
    ((9, 3), 127), ((16, 4), 129), ((33, 513), 15), ((3, 95, 17), 64), ((96, 16), 65),
    ((97, 5), 300), ((512, 9), 33), ((1025, 6), 3),
])  # fmt: skip
def test_ragged_shapes(impl, shape, slices):
    check(impl, shape, slices, draws=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_instruction_sets(instruction_set, dtype):
    for shape, slices in (((2, 70, 37), 150), ((129, 16), 9), ((3, 12, 20), 40), ((515, 65), 7)):
        check("cpu", shape, slices, dtype, draws=2)


@pytest.mark.parametrize("count", [*range(1, 36), 63, 64, 65, 100, 127, 129, 255, 256, 300, 1100])
def test_any_number_is_sorted(instruction_set, count):
    """A permutation of integers, for which all results are exact."""
    z = torch.stack([torch.randperm(count).double() for _ in range(17)]).T  # (count, 17)
    found = z.float().requires_grad_()
    directions = torch.eye(17)
    sliced_wasserstein(found, directions, impl="cpu").backward()
    exact = z.requires_grad_()
    sliced_wasserstein(exact, directions.double(), impl="reference").backward()
    torch.testing.assert_close(found.grad, exact.grad.float(), rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        value = sliced_wasserstein(found, directions, impl="cpu")
        expected = sliced_wasserstein(exact, directions.double(), impl="reference")
    torch.testing.assert_close(value, expected.float(), rtol=1e-6, atol=1e-7)


@each_implementation
@pytest.mark.parametrize("layout", [
    lambda z, a: (z.mT.contiguous().mT, a),
    lambda z, a: (z, a.T.contiguous().T),
    lambda z, a: (torch.cat([z, z], 2)[:, :, 18:], torch.cat([a, a])[18:]),
    lambda z, a: (z.transpose(0, 1).contiguous().transpose(0, 1), a),
    lambda z, a: (torch.stack([z, z], 3).flatten(2)[..., ::2], a.repeat_interleave(2, 0)[::2]),
    lambda z, a: (z[:1].expand(3, -1, -1), a),
], ids=["transposed", "directions", "sliced", "views", "stepped", "expanded"])  # fmt: skip
def test_strides(impl, layout):
    check(impl, (3, 40, 18), 50, draws=2, layout=layout)


@each_implementation
def test_one_set_and_many(impl):
    z, directions = separated((6, 30, 8), 20, torch.float32)
    each = [sliced_wasserstein(x, directions, impl=impl) for x in z]
    torch.testing.assert_close(
        sliced_wasserstein(z, directions, impl=impl), torch.stack(each).mean()
    )
    parts = z.view(2, 3, 30, 8).requires_grad_()
    nested = sliced_wasserstein(parts, directions, impl=impl)
    torch.testing.assert_close(nested, torch.stack(each).mean())
    assert torch.autograd.grad(nested, parts)[0].shape == parts.shape


@each_implementation
def test_equal_projections_take_any_order(impl):
    z = torch.ones(50, 4, requires_grad=True)
    directions = torch.eye(4)
    loss = sliced_wasserstein(z, directions, impl=impl)
    normal = NormalDist()
    targets = torch.tensor([normal.inv_cdf(i / 51) for i in range(1, 51)])
    torch.testing.assert_close(loss.detach(), (1 - targets).square().mean())
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(
        gradient.sort(0).values, (2 * (1 - targets) / 200).flip(0)[:, None].expand(50, 4)
    )


@each_implementation
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
def test_what_is_not_finite_makes_the_loss_so(impl, value):
    for count in (1, 5, 100, 700):
        z = torch.randn(3, count, 6)
        z[1, count // 2, 3] = value
        z.requires_grad_()
        loss = sliced_wasserstein(z, torch.randn(6, 140), impl=impl)
        assert not loss.isfinite() and (not math.isnan(value) or loss.isnan())
        (gradient,) = torch.autograd.grad(loss, z)
        assert gradient.shape == z.shape and gradient[0].isfinite().all()
    everything = torch.full((40, 6), value)
    assert not sliced_wasserstein(everything, torch.randn(6, 20), impl=impl).isfinite()


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
@pytest.mark.parametrize("shape, slices", [((3, 200, 30), 700), ((2000, 60), 300)])
def test_results_do_not_depend_on_the_number_of_threads(shape, slices):
    z, directions = torch.randn(shape, requires_grad=True), torch.randn(shape[-1], slices)
    before = torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            loss = sliced_wasserstein(z, directions, impl="cpu")
            outcomes.append((loss.detach(), *torch.autograd.grad(loss, z)))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in outcomes[1:]:
        assert torch.equal(loss, outcomes[0][0]) and torch.equal(gradient, outcomes[0][1])


@each_implementation
def test_bitwise_repeatable(impl):
    z, directions = torch.randn(3, 150, 20, requires_grad=True), torch.randn(20, 200)

    def run():
        loss = sliced_wasserstein(z, directions, impl=impl)
        return loss.detach(), *torch.autograd.grad(loss, z)

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


def test_projections_are_not_stored():
    """(4, 4096, 4096) in float32 would be 256 MiB, and autograd keeps several of them."""
    code = """
z = torch.randn(4, 4096, 16, requires_grad=True)
directions = torch.randn(16, 4096)
sliced_wasserstein(z[:, :100], directions[:, :100], impl=impl).backward()
before = peak()
sliced_wasserstein(z, directions, impl=impl).backward()
print(peak() - before)
"""
    cases = [{"impl": impl} for impl in BUILT]
    most = {"cpu": 48, "tiled": 128}  # the measured value, plus slack for the allocator
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < most[case["impl"]], case


@each_implementation
def test_without_gradients(impl):
    z, directions = separated((2, 40, 9), 30, torch.float32)
    expected = sliced_wasserstein(z, directions, impl=impl)
    assert not expected.requires_grad
    with torch.no_grad():
        inside = sliced_wasserstein(z.clone().requires_grad_(), directions, impl=impl)
    assert not inside.requires_grad
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=0)
    with torch.inference_mode():
        assert torch.equal(sliced_wasserstein(z, directions, impl=impl), expected)


@each_implementation
def test_gradients_are_scaled_and_once_only(impl):
    z, directions = torch.randn(30, 5, requires_grad=True), torch.randn(5, 12)
    loss = sliced_wasserstein(z, directions, impl=impl)
    (once,) = torch.autograd.grad(loss, z, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, z, retain_graph=True)
    torch.testing.assert_close(thrice, 3 * once)
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.sum().backward()


@pytest.mark.parametrize("impl", ["reference", "tiled", CPU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(impl, dtype):
    z, directions = torch.randn(60, 16).to(dtype), torch.randn(16, 40).to(dtype)
    outcomes = []
    for enabled in (False, True):
        leaf = z.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = sliced_wasserstein(leaf, directions, impl=impl)
        assert loss.dtype == torch.float32
        outcomes.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    assert all(torch.equal(*x) for x in zip(*outcomes, strict=True))
    assert outcomes[0][1].dtype == dtype


@each_implementation
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(impl, dtype, wanted):
    if impl == "cpu" and dtype == torch.float64:
        pytest.skip("computes in float32")
    z, directions = torch.randn(2, 6, 4, dtype=dtype), torch.randn(4, 5, dtype=dtype)
    arguments = z, directions, [wanted], impl
    torch.library.opcheck(torch.ops.sslkernels.sliced_wasserstein, arguments)


@pytest.mark.parametrize("impl", ["auto", "reference", "tiled", CPU])
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()
    step = torch.tensor(5)

    def function(z):
        directions = random_directions(step, z.shape[-1], 20)
        return sliced_wasserstein(z - z.mean(-2, keepdim=True), directions, impl=impl)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for rows in (40, 50):
        z = torch.randn(3, rows, 8, requires_grad=True)
        outcomes = []
        for f in (function, compiled):
            loss = f(z)
            outcomes.append([loss.detach(), *torch.autograd.grad(loss, z)])
        torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize("arguments, error, words", [
    ({"z": [1.0]}, TypeError, "z must be a torch.Tensor"),
    ({"z": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "z must be .* got torch.int64"),
    ({"z": torch.ones(4)}, ValueError, r"z must be \(…, N, D\).* got \(4,\)"),
    ({"z": torch.ones(2, 0, 4)}, ValueError, r"got \(2, 0, 4\)"),
    ({"z": torch.ones(3, 5)}, ValueError, r"directions must be \(D, M\) with D = 5"),
    ({"directions": torch.ones(4)}, ValueError, r"directions must be .* got \(4,\)"),
    ({"directions": torch.ones(4, 0)}, ValueError, r"got \(4, 0\)"),
    ({"directions": torch.ones(4, 2).double()}, TypeError, "one dtype"),
    ({"directions": torch.ones(4, 2, device="meta")}, ValueError, "one device"),
    ({"directions": torch.ones(4, 2, requires_grad=True)}, ValueError, "directions get no grad"),
    ({"impl": "triton"}, ValueError, "must be one of auto, reference, tiled, cpu"),
    ({"impl": 3}, TypeError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"z": torch.ones(3, 4), "directions": torch.ones(4, 2)}
    with pytest.raises(error, match=words):
        sliced_wasserstein(**{**good, **arguments})


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
def test_an_implementation_that_cannot_serve_says_so(monkeypatch):
    from sslkernels.primitives.sliced_wasserstein import cpu

    x = torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="float64"):
        sliced_wasserstein(x, x, impl="cpu")
    monkeypatch.setattr(cpu, "MOST_ROWS", 2)
    with pytest.raises(ValueError, match="at most 2 samples, got 3"):
        sliced_wasserstein(x.float(), x.float(), impl="cpu")


def test_absent_extension(monkeypatch):
    from sslkernels.primitives import _arguments

    monkeypatch.setattr(_ext, "_C", None)
    monkeypatch.setattr(_ext, "_reason", "not built", raising=False)
    monkeypatch.setattr(_arguments, "HAS_EXTENSION", False)
    x = torch.randn(3, 3)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        sliced_wasserstein(x, x, impl="cpu")
    exact = sliced_wasserstein(x, x, impl="reference")
    torch.testing.assert_close(sliced_wasserstein(x, x), exact)
