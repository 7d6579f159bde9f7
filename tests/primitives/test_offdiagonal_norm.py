import dataclasses
import itertools

import pytest
import torch
from covering import covering
from oracle import check_offdiagonal_norm
from peak_memory import printed

from sslkernels import Standardized, _ext, offdiagonal_norm
from sslkernels.primitives.offdiagonal_norm import routes

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BARLOW = Standardized(1e-3, 1, 1e-2)
COLUMNS = ["raw", "centered", "standardized", BARLOW]
ROUTES = ["sample", "feature"]
SYMMETRIC = [True, False]  # with itself, with another

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
each_columns = pytest.mark.parametrize("columns", COLUMNS, ids=str)
each_route = pytest.mark.parametrize("route", ROUTES)
with_itself_or_not = pytest.mark.parametrize("symmetric", SYMMETRIC, ids=["itself", "another"])


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext._C.instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext._C.use_instruction_set(request.param)
    yield request.param
    _ext._C.use_instruction_set(_ext._C.instruction_sets()[0])


def outcome(inputs, weight=1.0, **how):
    """Norm, diagonal, and the gradients of weight · norm + Σ diagonal · (1, 2, …) / d."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    norm, diagonal = offdiagonal_norm(*leaves, **how)
    ramp = torch.arange(1, len(diagonal) + 1, dtype=torch.float64) / len(diagonal)
    total = weight * norm.double() + weight * (diagonal.double() * ramp).sum()
    return norm.detach(), diagonal.detach(), *torch.autograd.grad(total, leaves)


def assert_close(found, exact, relative):
    for ours, expected in zip(found, exact, strict=True):
        error = (ours.double() - expected.double()).norm()
        assert error <= relative * expected.double().norm(), f"{error:.3e}"


@each_implementation
@pytest.mark.parametrize("dtype, columns, symmetric, shape", covering(
    DTYPES, COLUMNS, SYMMETRIC,
    [(16, 1024), (48, 384), (100, 130), (130, 130), (256, 64), (1024, 16)],
), ids=str)  # fmt: skip
def test_as_exact_as_eager(impl, dtype, columns, symmetric, shape):
    check_offdiagonal_norm(impl, *shape, columns, symmetric, dtype=dtype, draws=8)


@each_implementation
@pytest.mark.parametrize("dtype, columns, dearer", covering(DTYPES, COLUMNS, [
    ("feature", 16, 1024), ("feature", 60, 300), ("sample", 256, 64), ("sample", 1024, 16),
]), ids=str)  # fmt: skip
def test_the_dearer_route(impl, dtype, columns, dearer):
    route, n, d = dearer
    # floor: standardising removes from the gradient what the sample route subtracts
    check_offdiagonal_norm(impl, n, d, columns, False, route, dtype, draws=4, floor=1e-6)


@each_implementation
@pytest.mark.parametrize("route, columns, symmetric, shape", covering(
    ROUTES, COLUMNS, SYMMETRIC, [(5, 1), (7, 40), (97, 129), (129, 97), (193, 385)],
), ids=str)  # fmt: skip
def test_ragged_shapes(impl, route, columns, symmetric, shape):
    # floor: with few entries, a sum that eager happens to round well is no measure
    check_offdiagonal_norm(impl, *shape, columns, symmetric, route, draws=2, floor=1e-6)


@each_implementation
@each_route
@each_columns
@with_itself_or_not
@pytest.mark.parametrize("n, d", [(1, 1), (1, 5), (2, 1), (2, 3)])
def test_one_or_two_samples(impl, route, columns, symmetric, n, d):
    """Gradients then vanish, or nearly: only rounding errors remain."""
    inputs = [torch.randn(n, d) for _ in range(1 if symmetric else 2)]
    exact = outcome([x.double() for x in inputs], columns=columns, impl="reference")
    found = outcome(inputs, columns=columns, impl=impl, route=route)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


@each_implementation
@pytest.mark.parametrize("n, d", [(40, 2100), (200, 1200)])
def test_more_columns_than_one_tile(impl, n, d):
    for route in ("sample", "feature"):
        check_offdiagonal_norm(impl, n, d, route=route, draws=1, floor=1e-6)


@pytest.mark.parametrize("dtype, route, symmetric, shape, columns", covering(
    DTYPES, ROUTES, SYMMETRIC, [(70, 300), (300, 290)], ["raw", BARLOW],
), ids=str)  # fmt: skip
def test_instruction_sets(instruction_set, dtype, route, symmetric, shape, columns):
    check_offdiagonal_norm("cpu", *shape, columns, symmetric, route, dtype, draws=2, floor=1e-6)


@each_route
@each_columns
@with_itself_or_not
@pytest.mark.parametrize("n, d", [(9, 40), (40, 9), (2, 5), (1, 3)])
def test_float64_is_the_reference(route, columns, symmetric, n, d):
    inputs = [torch.randn(n, d, dtype=torch.float64) for _ in range(1 if symmetric else 2)]
    exact = outcome(inputs, columns=columns, impl="reference")
    found = outcome(inputs, columns=columns, route=route)
    assert found[0].dtype == found[1].dtype == torch.float64
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)


@with_itself_or_not
@each_columns
def test_reference_is_the_definition(symmetric, columns):
    a, b = (torch.randn(6, 4, dtype=torch.float64) for _ in range(2))
    b = a if symmetric else b

    def standardized(x):
        if columns == "raw":
            return x
        x = x - x.mean(0)
        if columns == "centered":
            return x
        rule = Standardized() if columns == "standardized" else columns
        return x / ((x.var(0, correction=rule.correction) + rule.eps).sqrt() + rule.outer_eps)

    product = standardized(a).T @ standardized(b)
    norm, diagonal = offdiagonal_norm(a, b, columns=columns, impl="reference")
    pairs = [(i, j) for i, j in itertools.product(range(4), repeat=2) if i != j]
    torch.testing.assert_close(norm, sum(product[pair] ** 2 for pair in pairs))
    torch.testing.assert_close(diagonal, product.diagonal())


def test_standardized_is_batch_normalisation():
    x = torch.randn(30, 7, dtype=torch.float64)
    normal = torch.nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(
        offdiagonal_norm(x, columns="standardized"), offdiagonal_norm(normal, columns="raw")
    )


@each_implementation
@pytest.mark.parametrize("route, dtype, layout", covering(
    ROUTES, [torch.float32, torch.bfloat16],
    ["transposed", "sliced", "expanded", "stepped", "repeated"],
), ids=str)  # fmt: skip
def test_strides(impl, route, dtype, layout):
    a = {
        "transposed": torch.randn(50, 230).T,
        "sliced": torch.randn(230, 90)[:, 7:57],
        "expanded": torch.randn(1, 50).expand(230, 50),
        "stepped": torch.randn(460, 100)[::2, ::2],
        "repeated": torch.randn(230, 1).expand(230, 50),
    }[layout].to(dtype)  # fmt: skip
    b = torch.randn(100, 230).T[:, ::2].to(dtype)
    # sums in another order round some bfloat16 gradients to a neighbour, which is 8e-3 away
    relative = 1e-5 if dtype == torch.float32 else 1e-3
    for columns, inputs in itertools.product(COLUMNS, ([a], [a, b], [b, a])):
        strided = outcome(inputs, columns=columns, impl=impl, route=route)
        plain = outcome([x.contiguous() for x in inputs], columns=columns, impl=impl, route=route)
        for x, y in zip(strided, plain, strict=True):
            assert (x.double() - y.double()).norm() <= relative * y.double().norm()


@each_implementation
@pytest.mark.parametrize("route, columns, scale", covering(ROUTES, COLUMNS, [
    (torch.float16, 16.0, 1e-3), (torch.float16, 1e-4, 1e-3), (torch.float16, 1e3, 1e-3),
    (torch.bfloat16, 16.0, 5e-3), (torch.bfloat16, 1e-4, 5e-3), (torch.bfloat16, 1e3, 5e-3),
    (torch.float32, 1e-4, 1e-5), (torch.float32, 1e3, 1e-5),
]), ids=str)  # fmt: skip
def test_scales_that_overflow_half_precision_products(impl, route, columns, scale):
    """For 600 features of this size, eager products exceed float16's range."""
    dtype, size, relative = scale
    n, d = (600, 24) if route == "feature" else (24, 600)
    inputs = [(size * torch.randn(n, d)).to(dtype) for _ in range(2)]
    exact = outcome([x.double() for x in inputs], columns=columns, impl="reference")
    weight = 1 / exact[2].abs().max().item()  # gradients near 1, which float16 can hold
    exact = outcome([x.double() for x in inputs], weight, columns=columns, impl="reference")
    assert_close(outcome(inputs, weight, columns=columns, impl=impl, route=route), exact, relative)


@each_implementation
@each_route
@pytest.mark.parametrize("columns", ["centered", "standardized", BARLOW], ids=str)
def test_features_that_never_change(impl, route, columns):
    """Their columns are zero; if standardised, they pass a finite gradient."""
    inputs = [torch.randn(40, 30) for _ in range(2)]
    inputs[0][:, 5] = 1e4 / 3
    inputs[1][:, [5, 9]] = 0.0
    exact = outcome([x.double() for x in inputs], columns=columns, impl="reference")
    found = outcome(inputs, columns=columns, impl=impl, route=route)
    assert_close(found, exact, 1e-5)
    assert found[1][[5, 9]].tolist() == [0.0, 0.0]


@each_implementation
@each_route
def test_no_variance_and_no_eps_under_the_root(impl, route):
    columns = Standardized(eps=0.0, outer_eps=0.1)
    a = torch.randn(20, 6)
    a[:, 3] = 2.0
    for found in outcome([a], columns=columns, impl=impl, route=route):
        assert torch.isfinite(found).all()


@each_implementation
@each_route
def test_a_large_mean_costs_no_digits(impl, route):
    base = torch.randn(100, 70).mul(64).round() / 64
    moved = outcome([base + 4096.0], columns="standardized", impl=impl, route=route)
    assert_close(moved, outcome([base], columns="standardized", impl=impl, route=route), 1e-5)


@each_implementation
@each_route
@each_columns
def test_nan_in_nan_out(impl, route, columns):
    a, b = torch.randn(30, 40), torch.randn(30, 40)
    a[3, 7] = float("nan")
    norm, diagonal, da, db = outcome([a, b], columns=columns, impl=impl, route=route)
    assert norm.isnan() and diagonal.isnan().nonzero().flatten().tolist() == [7]
    assert da.isnan().any() and db.isnan().any()


@each_implementation
@each_route
def test_only_the_gradients_asked_for(impl, route):
    base = [torch.randn(30, 20), torch.randn(30, 20)]

    def gradients(wanted):
        leaves = [x.clone().requires_grad_(want) for x, want in zip(base, wanted, strict=True)]
        offdiagonal_norm(*leaves, columns="standardized", impl=impl, route=route)[0].backward()
        return [leaf.grad for leaf in leaves]

    everything = gradients((True, True))
    for wanted in ((True, False), (False, True)):
        for got, want, full in zip(gradients(wanted), wanted, everything, strict=True):
            torch.testing.assert_close(got, full if want else None)


@each_implementation
@each_route
@pytest.mark.parametrize("result", [0, 1], ids=["norm", "diagonal"])
def test_one_result_may_go_unused(impl, route, result):
    a, b = (torch.randn(30, 20, requires_grad=True) for _ in range(2))
    grads = [
        torch.autograd.grad(offdiagonal_norm(a, b, columns="centered", **how)[result].sum(), (a, b))
        for how in ({"impl": impl, "route": route}, {"impl": "reference"})
    ]
    assert_close(*grads, 1e-5)


@each_implementation
@each_route
def test_twice_the_same_tensor_is_the_symmetric_case(impl, route):
    a = torch.randn(30, 20, requires_grad=True)
    two = offdiagonal_norm(a, a, columns="centered", impl=impl, route=route)
    one = offdiagonal_norm(a, columns="centered", impl=impl, route=route)
    torch.testing.assert_close(two, one)
    grads = [torch.autograd.grad(norm + diagonal.sum(), a)[0] for norm, diagonal in (two, one)]
    torch.testing.assert_close(*grads)


@each_implementation
@each_route
@with_itself_or_not
def test_bitwise_repeatable_over_thread_counts(impl, route, symmetric):
    inputs = [torch.randn(300, 420) for _ in range(1 if symmetric else 2)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 1, 2, 3, 5) if impl == "cpu" else (2, 2):
            torch.set_num_threads(threads)
            found.append(outcome(inputs, columns="standardized", impl=impl, route=route))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(found[0][2:], other[2:], strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("n, d, expected", [
    (1, 1, "feature"), (3, 4, "sample"), (4, 4, "feature"), (96, 128, "sample"),
    (97, 128, "feature"), (128, 96, "feature"),
])  # fmt: skip
def test_auto_takes_the_cheaper_route(n, d, expected):
    assert routes.choose("auto", n, d) == expected
    assert routes.choose("sample", n, d) == "sample" and routes.choose("feature", n, d) == "feature"


def test_auto_takes_the_fastest_implementation():
    inputs = [torch.randn(20, 30) for _ in range(2)]
    best = "cpu" if _ext.HAS_EXTENSION else "tiled"
    for x, y in zip(outcome(inputs), outcome(inputs, impl=best), strict=True):
        assert torch.equal(x, y)


def test_sample_route_keeps_no_product_of_features():
    """8192² float32 products of features would be 256 MiB."""
    code = """
def run(n, d):
    a, b = (torch.randn(n, d, requires_grad=True) for _ in range(2))
    offdiagonal_norm(a, b, columns="standardized", impl=impl)[0].backward()
run(64, 1024)
before = peak()
run(64, 8192)
print(peak() - before)
"""
    cases = [{"impl": impl} for impl in BUILT]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 64, case


@pytest.mark.parametrize("arguments, error, words", [
    ({"a": [1.0]}, TypeError, "torch.Tensor"),
    ({"a": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "int64"),
    ({"a": torch.ones(4)}, ValueError, r"\(4,\)"),
    ({"a": torch.ones(3, 0)}, ValueError, r"\(3, 0\)"),
    ({"b": [1.0]}, TypeError, "b must be a torch.Tensor"),
    ({"b": torch.ones(3, 5)}, ValueError, r"\(3, 4\) on cpu and \(3, 5\) on cpu"),
    ({"b": torch.ones(3, 4, dtype=torch.float16)}, TypeError, "one dtype, got .*32 and .*16"),
    ({"columns": "normal"}, ValueError, "raw, centered, standardized; got 'normal'"),
    ({"columns": None}, TypeError, "got None"),
    ({"route": "rows"}, ValueError, "one of auto, sample, feature; got 'rows'"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "cuda"}, ValueError, "one of auto, reference, tiled, cpu, triton; got"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        offdiagonal_norm(**{"a": torch.ones(3, 4), "b": torch.ones(3, 4), **arguments})


def test_float64_has_no_float32_kernel():
    with pytest.raises(ValueError, match="computes in float32"):
        offdiagonal_norm(torch.ones(3, 4, dtype=torch.float64), impl="cpu")


@pytest.mark.parametrize("arguments, words", [
    ({"eps": -1e-5}, "eps must not be negative"),
    ({"eps": 0.0}, "must be above 0, got 0 and 0"),
    ({"outer_eps": float("nan")}, "outer_eps must be a finite number"),
    ({"correction": 2}, r"correction must be in 0\.\.1, got 2"),
])  # fmt: skip
def test_a_bad_standardisation_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Standardized(**arguments)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Standardized().eps = 1.0
