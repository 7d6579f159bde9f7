import itertools

import pytest
import torch
import torch.nn.functional as F
from oracle import check_pairwise_softplus
from peak_memory import printed

from sslkernels import _ext, pairwise_softplus

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAN = float("nan")

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext._C.instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext._C.use_instruction_set(request.param)
    yield request.param
    _ext._C.use_instruction_set(_ext._C.instruction_sets()[0])


@each_implementation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale, bias", [
    (10.0, -10.0), (1.0, 0.0), (100.0, 0.0), (100.0, 50.0), (-5.0, -2.0), (3.0, -40.0),
])  # fmt: skip
def test_as_exact_as_eager(impl, dtype, scale, bias):
    check_pairwise_softplus(impl, 200, 150, 48, scale, bias, (0, 3, -3), dtype=dtype)


@each_implementation
@pytest.mark.parametrize("n, m, d", [
    (1, 1, 1), (1, 700, 5), (700, 1, 5), (191, 193, 16), (192, 384, 17), (383, 385, 129),
    (1153, 769, 33), (500, 40, 513), (64, 64, 1100),
])  # fmt: skip
@pytest.mark.parametrize("scale, bias", [(3.0, 0.0), (10.0, -10.0)])
def test_ragged_shapes(impl, n, m, d, scale, bias):
    # floor: with few entries, a score that eager happens to round well is no measure
    check_pairwise_softplus(impl, n, m, d, scale, bias, draws=2, floor=1e-6)


@pytest.mark.parametrize("m, exclude", [(200, (0,)), (250, ()), (250, (-190, -7, 0, 1, 240))])
@pytest.mark.parametrize("scale, bias", [(10.0, -10.0), (20.0, 0.0)])
def test_instruction_sets(instruction_set, m, exclude, scale, bias):
    check_pairwise_softplus("cpu", 200, m, 70, scale, bias, exclude)


@each_implementation
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads(impl, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_pairwise_softplus(impl, 2100, 900, 8, 2.0, -1.0, (0,), draws=1, floor=1e-6)
        check_pairwise_softplus(impl, 900, 1300, 8, 2.0, -1.0, (5,), draws=1, floor=1e-6)
        for n, m in ((70, 1300), (1300, 70)):  # cut along the longer side
            for dtype in (torch.float32, torch.bfloat16):
                options = {"dtype": dtype, "draws": 1, "floor": 1e-6}
                exclude = (0, 5, n - 600, 600 - m)
                check_pairwise_softplus(impl, n, m, 8, 2.0, -1.0, exclude, **options)
    finally:
        torch.set_num_threads(before)


def every_float(first: float, last: float) -> torch.Tensor:
    """A dense sample, uniform in the logarithm of |x| and uniform in x."""
    powers = torch.logspace(-8, 1.93, 40_000)
    x = torch.cat([torch.linspace(first, last, 100_000), powers, -powers, torch.zeros(1)])
    return x[(x >= first) & (x <= last)]


def test_softplus_and_sigmoid_keep_their_relative_accuracy(instruction_set):
    logits = every_float(-86.9, 90.0)
    q = logits[:, None].requires_grad_()
    rows = pairwise_softplus(q, torch.ones(1, 1), impl="cpu")
    (sigma,) = torch.autograd.grad(rows.sum(), q)
    exact = F.softplus(logits.double(), threshold=40.0)
    ulp = torch.finfo(torch.float32).eps
    assert ((rows - exact) / exact).abs().max() <= 1.5 * ulp
    exact = torch.sigmoid(logits.double())
    assert ((sigma[:, 0] - exact) / exact).abs().max() <= 2 * ulp


@each_implementation
@pytest.mark.parametrize("logit", [-1e30, -150.0, 150.0, 1e30])
def test_far_logits_neither_overflow_nor_turn_nan(impl, logit):
    q, k = torch.ones(5, 1, requires_grad=True), torch.ones(3, 1)
    rows = pairwise_softplus(q, k, logit, impl=impl)
    torch.testing.assert_close(rows, torch.full((5,), 3 * max(logit, 0.0)))
    (dq,) = torch.autograd.grad(rows.sum(), q)
    torch.testing.assert_close(dq, torch.full((5, 1), 3 * max(logit, 0.0)))


def test_float64_of_auto_is_the_reference():
    q, k = torch.randn(300, 20, dtype=torch.float64), torch.randn(700, 20, dtype=torch.float64)
    for bias in (-10.0, 0.0, 25.0):
        ours = pairwise_softplus(q, k, 0.7, bias, exclude=(0,))
        exact = pairwise_softplus(q, k, 0.7, bias, exclude=(0,), impl="reference")
        torch.testing.assert_close(ours, exact, rtol=1e-13, atol=0)
        assert ours.dtype == torch.float64


@each_implementation
def test_long_vectors_need_no_normalisation(impl):
    check_pairwise_softplus(impl, 300, 400, 20, 2.5, -1.0, unit=False)


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
        rows = pairwise_softplus(q, k, 0.5, -1.0, impl=impl)
        exact = pairwise_softplus(q, k, 0.5, -1.0, impl="reference")
        torch.testing.assert_close(rows, exact)


@each_implementation
def test_scale_and_bias_of_any_kind(impl):
    q, k = torch.randn(40, 6), torch.randn(30, 6)
    expected = pairwise_softplus(q, k, 0.5, -2.0, impl=impl)
    for scale, bias in (
        (torch.tensor([0.5]), torch.tensor([[-2.0]])),
        (torch.tensor(0.5), -2),
        (torch.tensor(0.5, dtype=torch.float64), torch.tensor(-2.0).half()),
    ):
        assert torch.equal(pairwise_softplus(q, k, scale, bias, impl=impl), expected)
    scale = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    bias = torch.full((1,), -2.0, dtype=torch.bfloat16, requires_grad=True)
    pairwise_softplus(q, k, scale, bias, impl=impl).sum().backward()
    assert scale.grad.shape == (1, 1) and scale.grad.dtype == torch.float64
    assert bias.grad.shape == (1,) and bias.grad.dtype == torch.bfloat16


@each_implementation
def test_nothing_left_is_zero_and_passes_no_gradient(impl):
    q, k = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    bias = torch.tensor(-1.0, requires_grad=True)
    rows = pairwise_softplus(q, k, 2.0, bias, exclude=(0, 1, -1), impl=impl)
    assert rows[:2].tolist() == [0.0, 0.0]
    logit = 2 * q[2] @ k[0] - 1
    torch.testing.assert_close(rows[2], F.softplus(logit))
    dq, dk, dbias = torch.autograd.grad(rows.sum(), (q, k, bias))
    expected = torch.zeros(3, 4)
    expected[2] = 2 * torch.sigmoid(logit) * k[0]
    torch.testing.assert_close(dq, expected)
    assert torch.equal(dk[1], torch.zeros(4))
    torch.testing.assert_close(dbias, torch.sigmoid(logit))
    one = torch.ones(1, 1, requires_grad=True)
    alone = pairwise_softplus(one, one, bias=NAN, exclude=(0,), impl=impl)
    assert alone.item() == 0 and torch.autograd.grad(alone.sum(), one)[0].item() == 0


@each_implementation
@pytest.mark.parametrize("scale", [1.0, 100.0, 0.0, -1.0])
def test_nan_in_nan_out(impl, scale):
    q, k = torch.randn(400, 8), torch.randn(300, 8)
    q[250, 3] = NAN
    assert pairwise_softplus(q, k, scale, -10.0, impl=impl).isnan().nonzero().tolist() == [[250]]
    assert pairwise_softplus(k, q, scale, -10.0, impl=impl).isnan().all()
    q.requires_grad_()
    rows = pairwise_softplus(q, q, scale, exclude=(0,), impl=impl)
    assert torch.autograd.grad(rows.mean(), q)[0].isnan().all()
    for bad in ({"scale": NAN}, {"bias": NAN}):
        assert pairwise_softplus(k, k, **bad, impl=impl).isnan().all()


@each_implementation
@pytest.mark.parametrize("size", [1e-30, 1e30], ids=["tiny", "huge"])
def test_gradients_keep_their_scale(impl, size):
    q, k = torch.randn(50, 8, requires_grad=True), torch.randn(60, 8, requires_grad=True)
    bias = torch.tensor(-3.0, requires_grad=True)

    def grads(size):
        rows = pairwise_softplus(q, k, 1.0, bias, impl=impl)
        return torch.autograd.grad(rows.sum() * size, (q, k, bias))

    for a, b in zip(grads(1.0), grads(size), strict=True):
        assert (b / size - a).norm() <= 1e-6 * a.norm()


@each_implementation
def test_bitwise_repeatable(impl):
    q, k = torch.randn(1500, 30, requires_grad=True), torch.randn(1700, 30, requires_grad=True)

    def run():
        rows = pairwise_softplus(q, k, 0.3, -1.0, exclude=(0,), impl=impl)
        return rows, *torch.autograd.grad(rows.square().sum(), (q, k))

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@each_implementation
def test_only_the_gradients_asked_for(impl):
    base = [torch.randn(300, 9), torch.randn(200, 9), torch.tensor(0.8), torch.tensor(-1.0)]

    def gradients(wanted):
        leaves = [x.clone().requires_grad_(want) for x, want in zip(base, wanted, strict=True)]
        pairwise_softplus(*leaves, impl=impl).square().sum().backward()
        return [leaf.grad for leaf in leaves]

    everything = gradients((True, True, True, True))
    for wanted in itertools.product((True, False), repeat=4):
        if any(wanted):
            for got, want, full in zip(gradients(wanted), wanted, everything, strict=True):
                torch.testing.assert_close(got, full if want else None)


def test_extra_memory_does_not_grow_with_the_scores():
    """8192² float32 scores would be 256 MiB."""
    code = """
q, k = (torch.randn(8192, 16, requires_grad=True) for _ in range(2))
warm = q[:1000].detach().requires_grad_()
pairwise_softplus(warm, k[:1000].detach(), 0.1, impl=impl).sum().backward()
before = peak()
pairwise_softplus(q, k, 0.1, impl=impl).sum().backward()
print(peak() - before)
"""
    cases = [{"impl": impl} for impl in BUILT]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 32, case


@pytest.mark.parametrize("arguments, error, words", [
    ({"q": [1.0]}, TypeError, "torch.Tensor"),
    ({"q": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "int64"),
    ({"q": torch.ones(4)}, ValueError, r"\(4,\)"),
    ({"q": torch.ones(3, 5)}, ValueError, r"q \(3, 5\) and k \(2, 4\)"),
    ({"q": torch.ones(3, 4, dtype=torch.float16)}, TypeError, "one dtype"),
    ({"exclude": (0.5,)}, TypeError, "offsets"),
    ({"scale": torch.ones(2)}, ValueError, "scale must be .* one element"),
    ({"bias": torch.ones(2)}, ValueError, "bias must be .* one element"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "cuda"}, ValueError, "one of auto, reference, tiled, cpu, triton; got"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"q": torch.ones(3, 4), "k": torch.ones(2, 4)}
    with pytest.raises(error, match=words):
        pairwise_softplus(**{**good, **arguments})
