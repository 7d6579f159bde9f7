import itertools

import pytest
import torch
import torch.nn.functional as F
from covering import covering
from oracle import check_pairwise_logsumexp
from peak_memory import printed

from sslkernels import _ext, pairwise_logsumexp

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext._C.instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext._C.use_instruction_set(request.param)
    yield request.param
    _ext._C.use_instruction_set(_ext._C.instruction_sets()[0])


@each_implementation
@pytest.mark.parametrize("dtype, temperature, m", covering(
    DTYPES, [0.5, 0.1, 0.05, 0.01, -1.0], [None, 150]
), ids=str)  # fmt: skip
def test_as_exact_as_eager(impl, dtype, temperature, m):
    check_pairwise_logsumexp(impl, 200, m, 48, 1 / temperature, (0, 3, -3), dtype=dtype)


@each_implementation
@pytest.mark.parametrize("n, m, d", [
    (1, 1, 1), (2, None, 1), (1, 700, 5), (700, 1, 5), (3, None, 300), (191, 193, 16),
    (192, None, 17), (193, None, 64), (383, 385, 129), (1153, None, 65), (769, None, 33),
    (500, 40, 513), (64, 64, 1100),
])  # fmt: skip
@pytest.mark.parametrize("scale", [3.0, 300.0], ids=["free", "shifted"])
def test_ragged_shapes(impl, n, m, d, scale):
    # floor: where a softmax has one entry, eager's is exactly 1 and its error no measure
    check_pairwise_logsumexp(impl, n, m, d, scale, draws=2, floor=1e-6)


@pytest.mark.parametrize("m, exclude", [(None, (0,)), (250, ()), (250, (-190, -7, 0, 1, 240))])
@pytest.mark.parametrize("scale", [4.0, 200.0], ids=["free", "shifted"])
def test_instruction_sets(instruction_set, m, exclude, scale):
    check_pairwise_logsumexp("cpu", 200, m, 70, scale, exclude)


@each_implementation
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads(impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_pairwise_logsumexp(impl, 2100, None, 8, 2.0, (0,), draws=1, floor=1e-6)
        check_pairwise_logsumexp(impl, 900, 1300, 8, 2.0, (5,), draws=1, floor=1e-6)
        for n, m in ((70, 1300), (1300, 70)):  # cut along the longer side
            for dtype in (torch.float32, torch.bfloat16):
                options = {"dtype": dtype, "draws": 1, "floor": 1e-6}
                check_pairwise_logsumexp(impl, n, m, 8, 2.0, (0, 5, n - 600, 600 - m), **options)
                check_pairwise_logsumexp(impl, n, m, 8, 200.0, (5,), **options)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@each_implementation
@pytest.mark.parametrize("low", [slice(0, 700), slice(700, 1400)])
def test_long_and_short_keys_far_apart(impl, low, two_threads):
    q = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    k = torch.randn(1400, 16, generator=torch.Generator().manual_seed(1))
    k[low] *= 1e-3
    for sign in (1, -1):  # the long rows dominate, or hardly count
        long = k if sign == 1 else torch.where(k.norm(dim=1, keepdim=True) > 0.5, -30 * q[:1], k)
        for a, b in ((q, long), (long, q)):
            found = pairwise_logsumexp(a, b, 10.0, columns=True, impl=impl)
            exact = pairwise_logsumexp(a.double(), b.double(), 10.0, columns=True)
            for x, y in zip(found, exact, strict=True):
                torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-5)


@each_implementation
def test_a_thread_with_nothing_left_of_a_row(impl, two_threads):
    q = torch.ones(1, 8, requires_grad=True)
    k = torch.cat([torch.full((192, 8), -5.0), torch.full((8, 8), 0.1)]).requires_grad_()
    grads = []
    for leaves in ((q, k), tuple(x.detach().double().requires_grad_() for x in (q, k))):
        rows = pairwise_logsumexp(*leaves, 10.0, exclude=tuple(range(192, 200)), impl=impl)
        grads.append(torch.autograd.grad(rows.sum(), leaves))
        impl = "reference"
    for found, exact in zip(*grads, strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-6)  # e^±400: 400 eps


@pytest.mark.parametrize("symmetric", [True, False])
def test_float64_of_auto_is_the_reference(symmetric):
    q = torch.randn(300, 20, dtype=torch.float64)
    k = q if symmetric else torch.randn(700, 20, dtype=torch.float64)
    ours = pairwise_logsumexp(q, k, 0.7, exclude=(0,), columns=True)
    exact = pairwise_logsumexp(q, k, 0.7, exclude=(0,), columns=True, impl="reference")
    torch.testing.assert_close(ours, exact, rtol=1e-13, atol=1e-13)
    assert ours[0].dtype == torch.float64


@each_implementation
def test_long_vectors_need_no_normalisation(impl):
    check_pairwise_logsumexp(impl, 300, 400, 20, 2.5, unit=False)
    check_pairwise_logsumexp(impl, 300, None, 20, 2.5, (0,), unit=False)


@each_implementation
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped"])
def test_strides(impl, layout):
    q = {
        "transposed": torch.randn(20, 230).T,
        "sliced": torch.randn(230, 50)[:, 7:27],
        "expanded": torch.randn(1, 20).expand(230, 20),
        "stepped": torch.randn(460, 40)[::2, ::2],
    }[layout]
    for k in (q, torch.randn(40, 250).T[:, ::2]):
        rows = pairwise_logsumexp(q, k, 0.5, impl=impl)
        torch.testing.assert_close(rows, pairwise_logsumexp(q, k, 0.5, impl="reference"))


@each_implementation
@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["free", "shifted"])
def test_identical_rows_and_zero_vectors(impl, scale):
    same = F.normalize(torch.ones(500, 10), dim=1)
    rows = pairwise_logsumexp(same, same, scale, exclude=(0,), impl=impl)
    torch.testing.assert_close(rows, scale + torch.full((500,), 499.0).log())
    zeros = torch.zeros(500, 10, requires_grad=True)
    rows = pairwise_logsumexp(zeros, zeros, scale, exclude=(0,), impl=impl)
    torch.testing.assert_close(rows, torch.full((500,), 499.0).log())
    assert torch.equal(torch.autograd.grad(rows.sum(), zeros)[0], torch.zeros(500, 10))


@each_implementation
@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["free", "shifted"])
def test_nothing_left_is_minus_infinity_and_passes_no_gradient(impl, scale):
    q, k = torch.randn(3, 4), torch.randn(2, 4)
    q, k = F.normalize(q, dim=1).requires_grad_(), F.normalize(k, dim=1).requires_grad_()
    rows, columns = pairwise_logsumexp(q, k, scale, exclude=(0, 1, -1), columns=True, impl=impl)
    assert rows.isneginf().tolist() == [True, True, False]
    assert columns.isneginf().tolist() == [False, True]
    dq, dk = torch.autograd.grad(rows.sum() + columns.sum(), (q, k))
    expected = torch.zeros(3, 4)
    expected[2] = 2 * scale * k[0]
    torch.testing.assert_close(dq, expected)
    torch.testing.assert_close(dk[1], torch.zeros(4))
    one = torch.ones(1, 1, requires_grad=True)
    alone = pairwise_logsumexp(one, one, scale, exclude=(0,), impl=impl)
    assert alone.isneginf().all()
    assert torch.autograd.grad(alone.sum(), one)[0].item() == 0


@each_implementation
@pytest.mark.parametrize("scale", [1.0, 100.0, 0.0, -1.0])
def test_nan_in_nan_out(impl, scale):
    q, k = torch.randn(400, 8), torch.randn(300, 8)
    q[250, 3] = float("nan")
    rows, columns = pairwise_logsumexp(q, k, scale, columns=True, impl=impl)
    assert rows.isnan().nonzero().flatten().tolist() == [250]
    assert columns.isnan().all()
    assert pairwise_logsumexp(q, q, scale, exclude=(0,), impl=impl).isnan().all()
    q.requires_grad_()
    rows = pairwise_logsumexp(q, q, scale, exclude=(0,), impl=impl)
    assert torch.autograd.grad(rows.mean(), q)[0].isnan().all()


@each_implementation
@pytest.mark.parametrize("size", [1e-30, 1e30], ids=["tiny", "huge"])
def test_gradients_keep_their_scale(impl, size):
    q, k = torch.randn(50, 8, requires_grad=True), torch.randn(60, 8, requires_grad=True)
    grads = torch.autograd.grad(pairwise_logsumexp(q, k, impl=impl).sum(), (q, k))
    scaled = torch.autograd.grad(pairwise_logsumexp(q, k, impl=impl).sum() * size, (q, k))
    for a, b in zip(grads, scaled, strict=True):
        assert (b / size - a).norm() <= 1e-6 * a.norm()


@each_implementation
@pytest.mark.parametrize("symmetric", [True, False])
def test_bitwise_repeatable(impl, symmetric):
    q = torch.randn(1500, 30, requires_grad=True)
    k = q if symmetric else torch.randn(1700, 30, requires_grad=True)

    def run():
        rows, columns = pairwise_logsumexp(q, k, 0.3, exclude=(0,), columns=True, impl=impl)
        return rows, columns, *torch.autograd.grad(rows.sum() + 2 * columns.sum(), {q, k})

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@each_implementation
def test_only_the_gradients_asked_for(impl):
    base = [torch.randn(300, 9), torch.randn(200, 9), torch.tensor(0.8)]

    def gradients(wanted):
        leaves = [x.clone().requires_grad_(want) for x, want in zip(base, wanted, strict=True)]
        rows, columns = pairwise_logsumexp(*leaves, columns=True, impl=impl)
        (rows.sum() + columns.square().sum()).backward()
        return [leaf.grad for leaf in leaves]

    everything = gradients((True, True, True))
    for wanted in itertools.product((True, False), repeat=3):
        if any(wanted):
            for got, want, full in zip(gradients(wanted), wanted, everything, strict=True):
                torch.testing.assert_close(got, full if want else None)


@each_implementation
def test_symmetric_path_agrees_with_the_general_one(impl):
    q = torch.randn(900, 24, requires_grad=True)
    for exclude in ((), (0,), (0, 450, -450), (7,)):  # the last is not symmetric
        one = pairwise_logsumexp(q, q, 0.2, exclude=exclude, columns=True, impl=impl)
        two = pairwise_logsumexp(q, q.view_as(q), 0.2, exclude=exclude, columns=True, impl=impl)
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
        grads = [torch.autograd.grad((r * r).sum() + c.sum(), q)[0] for r, c in (one, two)]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_extra_memory_does_not_grow_with_the_scores():
    """8192² float32 scores would be 256 MiB."""
    code = """
q = torch.randn(8192, 16, requires_grad=True)
warm = q[:1000].detach().requires_grad_()
pairwise_logsumexp(warm, warm, 0.1, impl=impl).sum().backward()
before = peak()
pairwise_logsumexp(q, q, 0.1, exclude=(0,), impl=impl).sum().backward()
print(peak() - before)
"""
    cases = [{"impl": impl} for impl in BUILT]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 32, case


@pytest.mark.parametrize("arguments, error, words", [
    ({"q": [1.0]}, TypeError, "torch.Tensor"),
    ({"q": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "int64"),
    ({"q": torch.ones(4)}, ValueError, r"\(4,\)"),
    ({"q": torch.ones(0, 4)}, ValueError, r"\(0, 4\)"),
    ({"q": torch.ones(3, 5)}, ValueError, r"q \(3, 5\) and k \(2, 4\)"),
    ({"q": torch.ones(3, 4, dtype=torch.float16)}, TypeError, "one dtype"),
    ({"q": torch.ones(3, 4, device="meta")}, ValueError, "one device"),
    ({"exclude": (0.5,)}, TypeError, "offsets"),
    ({"scale": torch.ones(2)}, ValueError, "one element"),
    ({"impl": "cuda"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"q": torch.ones(3, 4), "k": torch.ones(2, 4)}
    with pytest.raises(error, match=words):
        pairwise_logsumexp(**{**good, **arguments})


def test_an_implementation_that_cannot_serve_float64_says_so():
    if _ext.HAS_EXTENSION:
        x = torch.ones(3, 4, dtype=torch.float64)
        with pytest.raises(ValueError, match="float64"):
            pairwise_logsumexp(x, x, impl="cpu")


def test_absent_extension(monkeypatch):
    monkeypatch.setattr(_ext, "_C", None)
    monkeypatch.setattr(_ext, "_reason", "not built", raising=False)
    x = torch.ones(3, 4)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        pairwise_logsumexp(x, x, impl="cpu")
