from itertools import product

import pytest
import torch
from oracle import check_nearest_neighbor
from peak_memory import printed

from sslkernels import _ext, nearest_neighbor

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def integers(n, d, most=3, dtype=torch.float32):
    """Small integers, whose products are exact in any order and often equal."""
    return torch.randint(-most, most + 1, (n, d)).to(dtype)


def assert_equals_reference(impl, q, k, topk, exclude=()):
    expected = nearest_neighbor(q, k, topk, exclude=exclude, impl="reference")
    for ours, theirs in zip(
        nearest_neighbor(q, k, topk, exclude=exclude, impl=impl), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_reference_is_the_definition():
    q, k = torch.randn(6, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    similarities, indices = nearest_neighbor(q, k, 2, exclude=(1,), impl="reference")
    for i in range(6):
        entries = [(-float(q[i] @ k[j]), j) for j in range(5) if j - i != 1]
        best = sorted(entries)[:2]
        assert indices[i].tolist() == [j for _, j in best]
        assert similarities[i].tolist() == pytest.approx([-s for s, _ in best], rel=1e-13)


@each_implementation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("topk", [1, 20, 200])
@pytest.mark.parametrize("exclude", [(), (0, 3, -3)], ids=["all", "exclude"])
def test_as_exact_as_eager(impl, dtype, topk, exclude):
    check_nearest_neighbor(impl, 400, 450, 48, topk, exclude, dtype=dtype)


@each_implementation
@pytest.mark.parametrize("n, m, d", [
    (1, 1, 1), (2, 2, 1), (1, 700, 5), (700, 1, 5), (3, 3, 300), (191, 193, 16), (192, 192, 17),
    (383, 385, 129), (1153, 1153, 65), (500, 40, 513), (64, 64, 1100), (9, 9000, 3),
])  # fmt: skip
def test_ragged_shapes(impl, n, m, d):
    for topk in {1, min(m, 7), m}:
        check_nearest_neighbor(impl, n, m, d, topk, draws=2, floor=1e-6)


@pytest.mark.parametrize("topk", [1, 30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_instruction_sets(instruction_set, topk, dtype):
    check_nearest_neighbor("cpu", 410, 500, 70, topk, (-380, -7, 0, 1, 400), dtype=dtype)
    assert_equals_reference("cpu", integers(410, 5), integers(500, 5), topk, (0, 3))


@each_implementation
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("topk", [1, 2, 17, 2300])
def test_of_equals_the_smallest_index(impl, dtype, topk):
    if impl == "cpu" and dtype == torch.float64:
        pytest.skip("computes in float32")
    q, k = integers(310, 4, dtype=dtype), integers(2300, 4, dtype=dtype)
    assert_equals_reference(impl, q, k, topk)
    assert_equals_reference(impl, q, k, topk, (0, 5, -200, 2299, 10_000))
    assert_equals_reference(impl, torch.zeros_like(q), k, topk)  # also -0


@each_implementation
def test_equals_across_tiles(impl):
    q, k = integers(5, 3), integers(20_000, 3)
    for topk in (1, 100, 5000):
        assert_equals_reference(impl, q, k, topk, (0, 1))


@each_implementation
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads(impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for n in (1, 8, 1000):
            assert_equals_reference(impl, integers(n, 6), integers(1300, 6), 9, (5,))
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
def test_results_do_not_depend_on_the_number_of_threads():
    q, k = torch.randn(700, 40), torch.randn(900, 40)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(nearest_neighbor(q, k, 3, impl="cpu"))
    finally:
        torch.set_num_threads(before)
    for similarities, indices in results[1:]:
        assert torch.equal(similarities, results[0][0]) and torch.equal(indices, results[0][1])


def test_float64_of_auto_is_the_reference():
    q, k = torch.randn(300, 20, dtype=torch.float64), torch.randn(700, 20, dtype=torch.float64)
    ours = nearest_neighbor(q, k, 5, exclude=(0,))
    exact = nearest_neighbor(q, k, 5, exclude=(0,), impl="reference")
    torch.testing.assert_close(ours, exact, rtol=1e-13, atol=1e-13)
    assert ours[0].dtype == torch.float64 and ours[1].dtype == torch.int64


@each_implementation
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped"])
def test_strides(impl, layout):
    q = {
        "transposed": integers(20, 230).T,
        "sliced": integers(230, 50)[:, 7:27],
        "expanded": integers(1, 20).expand(230, 20),
        "stepped": integers(460, 40)[::2, ::2],
    }[layout]
    for k in (q, integers(40, 250).T[:, ::2]):
        assert_equals_reference(impl, q, k, 3)


@each_implementation
@pytest.mark.parametrize("topk", [1, 2])
def test_nothing_left(impl, topk):
    q, k = torch.ones(3, 4), torch.ones(2, 4)
    similarities, indices = nearest_neighbor(q, k, topk, exclude=(0, 1, -1), impl=impl)
    assert similarities[:2].isneginf().all() and (indices[:2] == -1).all()
    assert similarities[2].tolist() == [4.0, float("-inf")][:topk]
    assert indices[2].tolist() == [0, -1][:topk]


@each_implementation
@pytest.mark.parametrize("topk", [1, 2, 5, 250])
def test_nan_is_the_largest(impl, topk):
    q, k = integers(400, 8), integers(300, 8)
    q[250, 3] = float("nan")
    k[[7, 290], 2] = float("nan")
    k[40, 1] = float("inf")
    k[41, 1] = -float("inf")
    similarities, indices = nearest_neighbor(q, k, topk, impl=impl)
    assert similarities[:, 0].isnan().all() and (indices[torch.arange(400) != 250, 0] == 7).all()
    assert indices[250].tolist() == list(range(topk))
    assert_equals_reference(impl, q, k, topk)
    assert_equals_reference(impl, q, k, topk, (0, 7))
    negative = q.clone()
    negative[250, 3] = -float("nan")
    assert_equals_reference(impl, negative, k, topk)


@each_implementation
def test_infinite_products(impl):
    q, k = torch.tensor([[1e30], [-1e30]]), torch.tensor([[1.0], [1e30], [-1e30], [1e30]])
    similarities, indices = nearest_neighbor(q, k, 4, impl=impl)
    inf = float("inf")
    assert similarities[0].tolist() == pytest.approx([inf, inf, 1e30, -inf])
    assert indices.tolist() == [[1, 3, 0, -1], [2, 0, -1, -1]]


@each_implementation
@pytest.mark.parametrize("topk", [1, 20])
def test_bitwise_repeatable(impl, topk):
    q, k = torch.randn(1500, 30), torch.randn(1700, 30)

    def run():
        return nearest_neighbor(q, k, topk, exclude=(0,), impl=impl)

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


def test_extra_memory_does_not_grow_with_the_products():
    """8192² float32 products would be 256 MiB."""
    code = """
q = torch.randn(8192, 8)
nearest_neighbor(q[:1000], q[:1000], topk, impl=impl)
before = peak()
nearest_neighbor(q, q, topk, exclude=(0,), impl=impl)
print(peak() - before)
"""
    cases = [{"impl": x, "topk": y} for x, y in product(BUILT, [1, 20])]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 48, case


@each_implementation
def test_inference_mode_and_no_gradient(impl):
    q, k = torch.randn(30, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)
    similarities, indices = nearest_neighbor(q, k, 2, impl=impl)
    assert not similarities.requires_grad and not indices.requires_grad
    with torch.inference_mode():
        inside = nearest_neighbor(q, k, 2, impl=impl)
    assert torch.equal(inside[0], similarities) and torch.equal(inside[1], indices)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(impl, dtype):
    q, k = torch.randn(60, 16).to(dtype), torch.randn(50, 16).to(dtype)
    outside = nearest_neighbor(q, k, 3, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nearest_neighbor(q, k, 3, impl=impl)
    assert inside[0].dtype == torch.float32
    assert torch.equal(inside[0], outside[0]) and torch.equal(inside[1], outside[1])


@pytest.mark.parametrize("impl", ["reference", "tiled"] + ["cpu"] * _ext.HAS_EXTENSION)
@pytest.mark.parametrize("topk", [1, 3])
def test_opcheck(impl, topk):
    q, k = torch.randn(6, 4), torch.randn(5, 4)
    torch.library.opcheck(torch.ops.sslkernels.nearest_neighbor, (q, k, topk, [0], impl))


@pytest.mark.parametrize("impl, topk", [
    ("auto", 1), ("reference", 3), ("tiled", 1), *[("cpu", 3)] * _ext.HAS_EXTENSION,
])  # fmt: skip
def test_compile_without_graph_breaks(impl, topk):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(q, k):
        z = torch.nn.functional.normalize(q, dim=1)
        similarities, indices = nearest_neighbor(z, k, topk, exclude=(0,), impl=impl)
        return (z * k[indices[:, 0]]).sum(), similarities

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for rows in (40, 50):  # a second shape
        q, k = torch.randn(rows, 8, requires_grad=True), torch.randn(30, 8)
        outcomes = []
        for f in (function, compiled):
            loss, similarities = f(q, k)
            torch.testing.assert_close(loss, similarities[:, 0].sum())
            outcomes.append([loss.detach(), similarities, *torch.autograd.grad(loss, q)])
        torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize("arguments, error, words", [
    ({"q": [1.0]}, TypeError, "torch.Tensor"),
    ({"q": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "int64"),
    ({"q": torch.ones(4)}, ValueError, r"\(4,\)"),
    ({"q": torch.ones(0, 4)}, ValueError, r"\(0, 4\)"),
    ({"q": torch.ones(3, 5)}, ValueError, r"q \(3, 5\) and k \(2, 4\)"),
    ({"q": torch.ones(3, 4, dtype=torch.float16)}, TypeError, "one dtype"),
    ({"q": torch.ones(3, 4, device="meta")}, ValueError, "one device"),
    ({"topk": 0}, ValueError, "topk must be at least 1, got 0"),
    ({"topk": 3}, ValueError, r"1\.\.2, the rows of k; got 3"),
    ({"topk": 1.5}, TypeError, "integer, got 1.5"),
    ({"exclude": (0.5,)}, TypeError, "offsets"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"q": torch.ones(3, 4), "k": torch.ones(2, 4)}
    with pytest.raises(error, match=words):
        nearest_neighbor(**{**good, **arguments})


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
def test_an_implementation_that_cannot_serve_float64_says_so():
    x = torch.ones(3, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="float64"):
        nearest_neighbor(x, x, impl="cpu")


def test_absent_extension(monkeypatch):
    from sslkernels.primitives import _arguments

    monkeypatch.setattr(_ext, "_C", None)
    monkeypatch.setattr(_ext, "_reason", "not built", raising=False)
    monkeypatch.setattr(_arguments, "HAS_EXTENSION", False)
    x = torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        nearest_neighbor(x, x, impl="cpu")
    assert_equals_reference("auto", x, x, 2)
