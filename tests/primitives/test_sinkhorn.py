import pytest
import torch
from oracle import check_sinkhorn
from peak_memory import printed

from sslkernels import _ext, sinkhorn

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def plan(logits, center, epsilon):
    """(n, k), rows of mass 1."""
    return ((logits.double() - center.double().unsqueeze(-2)) / epsilon).softmax(-1)


def linear_plan(logits, epsilon, iterations):
    """The published algorithm, in float64: scale the matrix itself."""
    plan = torch.exp(logits.double() / epsilon)
    for _ in range(iterations):
        plan = plan / plan.sum(-2, keepdim=True)
        plan = plan / plan.sum(-1, keepdim=True)
    return plan


def assert_equals_reference(impl, logits, epsilon=0.05, iterations=3, rows=None):
    expected = sinkhorn(logits.double(), epsilon, iterations, rows=rows, impl="reference")
    ours = sinkhorn(logits, epsilon, iterations, rows=rows, impl=impl)
    assert ours.dtype == torch.float32 and ours.shape == logits.shape[:-2] + logits.shape[-1:]
    eager = sinkhorn(logits.float(), epsilon, iterations, rows=rows, impl="reference")
    rounding = (eager - expected)[expected.isfinite()].abs().max().item()  # of logits, too
    atol = 1e-6 * epsilon + 2 * rounding
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("impl", ["reference", *IMPLEMENTATIONS])
@pytest.mark.parametrize("iterations", [1, 2, 3, 20])
@pytest.mark.parametrize("shape", [(40, 30), (7, 200), (3, 50, 20)], ids=str)
def test_plan_is_that_of_the_linear_domain(impl, iterations, shape):
    logits = 0.3 * torch.randn(shape)
    found = plan(logits, sinkhorn(logits, 0.05, iterations, impl=impl), 0.05)
    torch.testing.assert_close(found, linear_plan(logits, 0.05, iterations), rtol=1e-5, atol=1e-6)


@each_implementation
def test_prototypes_get_equal_mass_in_the_end(impl):
    logits = torch.randn(300, 20)
    masses = plan(logits, sinkhorn(logits, 0.5, 100, impl=impl), 0.5).sum(0)
    torch.testing.assert_close(masses, torch.full_like(masses, 300 / 20), rtol=1e-5, atol=0)


@each_implementation
@each_dtype
@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("shape", [(128, 3000), (1000, 300), (5, 60, 70)], ids=str)
def test_as_exact_as_eager(impl, dtype, iterations, shape):
    check_sinkhorn(impl, shape, 0.05, iterations, dtype)


@each_implementation
@pytest.mark.parametrize("shape", [
    (1, 1), (1, 300), (300, 1), (2, 2), (31, 63), (33, 2047), (65, 2049), (9, 4100), (3, 1, 5),
    (4, 3, 1), (2, 40, 130),
], ids=str)  # fmt: skip
def test_ragged_shapes(impl, shape):
    check_sinkhorn(impl, shape, floor=1e-6)


@each_dtype
def test_instruction_sets(instruction_set, dtype):
    check_sinkhorn("cpu", (70, 2100), dtype=dtype, floor=1e-6)
    check_sinkhorn("cpu", (3, 40, 77), dtype=dtype, floor=1e-6)


@each_implementation
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads(impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for shape in ((1, 40), (4, 40), (100, 300), (2, 50, 30), (7, 3, 30)):
            assert_equals_reference(impl, torch.randn(shape), 0.3)
    finally:
        torch.set_num_threads(before)


def test_float64_of_auto_is_the_reference():
    logits = torch.randn(90, 400, dtype=torch.float64)
    ours = sinkhorn(logits)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, sinkhorn(logits, impl="reference"), rtol=1e-13, atol=1e-13)


@each_implementation
@each_dtype
def test_finite_where_the_linear_domain_is_not(impl, dtype):
    logits = torch.randn(64, 200).clamp(-3, 3)
    logits[0, 0], logits[5, 7] = 3.6, 30
    logits[9] -= 3
    logits[10] -= 60
    logits[:, 11] -= 40
    logits = logits.to(dtype)
    assert torch.exp(logits.float() / 0.04).isinf().any()
    check = sinkhorn(logits, 0.04, 3, impl=impl)
    expected = sinkhorn(logits.double(), 0.04, 3, impl="reference")
    assert expected.isfinite().all()
    torch.testing.assert_close(check.double(), expected, rtol=1e-6, atol=1e-6)
    assert plan(logits, check, 0.04).isfinite().all()


@each_implementation
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped", "groups"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strides(impl, layout, dtype):
    x = torch.randn(60, 70).to(dtype)
    assert_equals_reference(impl, {
        "transposed": x.T,
        "sliced": x[5:40, 7:60],
        "expanded": x[:1].expand(20, 70),
        "stepped": x[::3, ::2],
        "groups": x.view(12, 5, 70).transpose(0, 1),
    }[layout], 0.3)  # fmt: skip


@each_implementation
@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40)], ids=str)
@pytest.mark.parametrize("integer", [torch.int64, torch.int32], ids=str)
def test_only_the_first_rows_count(impl, shape, integer):
    logits = torch.randn(shape)
    for count in (1, 17, 29, 30, 100):
        expected = sinkhorn(logits[..., :count, :], 0.3, impl=impl)
        held = logits.clone()
        held[..., count:, :] = float("nan")
        ours = sinkhorn(held, 0.3, rows=torch.tensor(count, dtype=integer), impl=impl)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    assert_equals_reference(impl, logits, 0.3, rows=torch.tensor([17]))


@pytest.mark.parametrize("impl", ["reference", *IMPLEMENTATIONS])
def test_a_prototype_to_which_nothing_goes(impl):
    for count in (0, -1):
        rows = torch.tensor(count)
        assert sinkhorn(torch.randn(4, 5), rows=rows, impl=impl).tolist() == [0] * 5
    for epsilon in (0.05, 0.1, 0.3, 3.0):
        logits = torch.randn(30, 50)
        logits[:, [7, 49]] = -float("inf")
        center = sinkhorn(logits, epsilon, impl=impl)
        rest = [k for k in range(50) if k not in (7, 49)]
        assert center[[7, 49]].tolist() == [0, 0]
        expected = sinkhorn(logits[:, rest].double(), epsilon, impl="reference")
        torch.testing.assert_close(center[rest].double(), expected, rtol=1e-6, atol=1e-6)


@each_implementation
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_and_infinity_give_nan(impl, value):
    logits = torch.randn(30, 2100)
    logits[4, 2050] = float(value)
    once = sinkhorn(logits, iterations=1, impl=impl)
    assert once[2050].isnan() and once.isnan().sum() == 1
    assert sinkhorn(logits, iterations=2, impl=impl).isnan().all()
    groups = torch.stack([logits, logits.nan_to_num(0, 0)])
    assert sinkhorn(groups, impl=impl).isnan().all(1).tolist() == [True, False]


@each_implementation
def test_a_sample_without_any_prototype_gives_nan(impl):
    logits = torch.randn(30, 50)
    logits[3] = -float("inf")
    assert sinkhorn(logits, impl=impl).isnan().all()


@each_implementation
def test_invariances(impl):
    logits = torch.randn(50, 80)
    center = sinkhorn(logits, 0.3, impl=impl)

    def assert_is(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    assert_is(sinkhorn(logits[torch.randperm(50)], 0.3, impl=impl), center)
    order = torch.randperm(80)
    assert_is(sinkhorn(logits[:, order], 0.3, impl=impl), center[order])
    shift = torch.randn(80)  # of prototypes: removed by the centre
    assert_is(sinkhorn(logits + shift, 0.3, impl=impl), center + shift)
    assert_is(sinkhorn(10 * logits, 3.0, impl=impl), 10 * center)
    # of samples: only the first step weights them
    shift = torch.randn(50, 1)
    with_shift = sinkhorn(logits + shift, 0.3, 200, impl=impl)
    plans = [plan(logits, x, 0.3) for x in (with_shift, sinkhorn(logits, 0.3, 200, impl=impl))]
    torch.testing.assert_close(*plans, rtol=1e-3, atol=1e-5)


@each_implementation
@pytest.mark.parametrize("shape", [(500, 700), (3, 90, 100)], ids=str)
def test_bitwise_repeatable(impl, shape):
    logits = torch.randn(shape)
    assert torch.equal(sinkhorn(logits, impl=impl), sinkhorn(logits, impl=impl))


def test_extra_memory_does_not_grow_with_the_logits():
    """The logits are 125 MiB."""
    code = """
logits = torch.randn(16384, 2000)
sinkhorn(logits[:1000], impl=impl)
before = peak()
sinkhorn(logits, impl=impl)
print(peak() - before)
"""
    cases = [{"impl": impl} for impl in BUILT]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 24, case


@each_implementation
def test_inference_mode_and_no_gradient(impl):
    logits = torch.randn(30, 20, requires_grad=True)
    center = sinkhorn(logits, impl=impl)
    assert not center.requires_grad
    with torch.inference_mode():
        assert torch.equal(sinkhorn(logits, impl=impl), center)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(impl, dtype):
    logits = torch.randn(60, 50).to(dtype)
    outside = sinkhorn(logits, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sinkhorn(logits, impl=impl), outside)


@pytest.mark.parametrize("impl", ["reference", "tiled"] + ["cpu"] * _ext.HAS_EXTENSION)
@pytest.mark.parametrize("rows", [None, torch.tensor(4)], ids=["all", "some"])
def test_opcheck(impl, rows):
    for epsilon in ((None, 0.1), (torch.tensor(0.1, dtype=torch.float64), 1.0)):
        arguments = torch.randn(2, 6, 5), *epsilon, 3, rows, impl
        torch.library.opcheck(torch.ops.sslkernels.sinkhorn, arguments)


@pytest.mark.parametrize("impl", ["auto", "reference", "tiled"] + ["cpu"] * _ext.HAS_EXTENSION)
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(logits, rows):
        center = sinkhorn(logits, 0.1, rows=rows, impl=impl)
        return ((logits - center) / 0.1).softmax(1)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for n in (40, 50):  # a second shape
        arguments = torch.randn(n, 8), torch.tensor(n - 10)
        torch.testing.assert_close(compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("arguments, error, words", [
    ({"logits": [1.0]}, TypeError, "torch.Tensor"),
    ({"logits": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "int64"),
    ({"logits": torch.ones(4)}, ValueError, r"two or three non-empty dimensions, got \(4,\)"),
    ({"logits": torch.ones(1, 2, 3, 4)}, ValueError, r"\(1, 2, 3, 4\)"),
    ({"logits": torch.ones(0, 4)}, ValueError, r"\(0, 4\)"),
    ({"epsilon": 0}, ValueError, "above 0, got 0"),
    ({"epsilon": float("nan")}, ValueError, "epsilon must be a finite number .*, got nan"),
    ({"epsilon": float("inf")}, ValueError, "epsilon must be a finite number .*, got inf"),
    ({"epsilon": "0.1"}, TypeError, "number, got '0.1'"),
    ({"iterations": 0}, ValueError, r"iterations must be in 1\.\.10000, got 0"),
    ({"iterations": 2.0}, TypeError, "integer, got 2.0"),
    ({"rows": 3}, TypeError, "integer or None, got 3"),
    ({"rows": torch.tensor(3.0)}, TypeError, "integer"),
    ({"rows": torch.tensor([1, 2])}, ValueError, r"one element, got \(2,\)"),
    ({"rows": torch.tensor(3, device="meta")}, ValueError, "rows must be on cpu"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        sinkhorn(**{"logits": torch.ones(3, 4), **arguments})


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
def test_an_implementation_that_cannot_serve_float64_says_so():
    with pytest.raises(ValueError, match="float64"):
        sinkhorn(torch.ones(3, 4, dtype=torch.float64), impl="cpu")
