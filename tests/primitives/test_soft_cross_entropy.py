import itertools
import subprocess
import sys

import pytest
import torch
from soft_cross_entropy_oracle import check_prototype_cross_entropy, check_soft_cross_entropy

from sslkernels import _ext, prototype_cross_entropy, soft_cross_entropy

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAN, INF = float("nan"), float("inf")

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext._C.instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext._C.use_instruction_set(request.param)
    yield request.param
    _ext._C.use_instruction_set(_ext._C.instruction_sets()[0])


@each_implementation
@each_dtype
@pytest.mark.parametrize("options", [
    {}, {"centers": None}, {"teacher_temperature": None}, {"centers": (2, 1)}, {"centers": (1, 3)},
    {"centers": (2, 6)}, {"size": 0.01}, {"student_temperature": 1.0, "teacher_temperature": 0.07},
], ids=str)  # fmt: skip
def test_as_exact_as_eager(impl, dtype, options):
    check_soft_cross_entropy(impl, 4, 2, 6, 5000, dtype=dtype, **options)


@each_implementation
@pytest.mark.parametrize("students, teachers, rows, width", [
    (1, 1, 1, 2), (2, 3, 1, 17), (3, 2, 70, 15), (1, 2, 5, 2048), (5, 1, 3, 2049),
    (1, 1, 200, 100), (2, 2, 2, 33_000), (1, 1, 1, 65_537), (1, 5, 3, 64),
])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"listed": True}, {"teacher_temperature": None}], ids=str)
def test_ragged_shapes(impl, students, teachers, rows, width, options):
    # floor: with few entries, what eager happens to round well is no measure
    check_soft_cross_entropy(impl, students, teachers, rows, width, draws=2, floor=2e-6, **options)


@each_implementation
def test_one_prototype_is_certain(impl):
    student = torch.randn(2, 3, 1, requires_grad=True)
    rows = soft_cross_entropy(student, torch.randn(1, 3, 1), impl=impl)
    assert torch.equal(rows, torch.zeros(2, 3))
    assert torch.equal(torch.autograd.grad(rows.sum(), student)[0], torch.zeros(2, 3, 1))


@each_dtype
@pytest.mark.parametrize("width", [5, 31, 2047, 5000])
def test_instruction_sets(instruction_set, dtype, width):
    check_soft_cross_entropy("cpu", 3, 2, 5, width, dtype=dtype, floor=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_are_rounded_as_torch_rounds(instruction_set, dtype):
    """Small, subnormal, large and infinite ones: those of one row of weights."""
    powers = torch.arange(-40, 20, 0.37).exp2()
    weights = torch.cat([powers, -powers, torch.tensor([7e4, 3e38, INF, NAN])]).repeat(3)
    found = []
    for as_dtype in (torch.float32, dtype):
        student = torch.zeros(len(weights), 3).to(as_dtype).requires_grad_()
        teacher = torch.tensor([[1.0, 0.0, 0.0]]).expand(len(weights), 3)
        rows = soft_cross_entropy(student, teacher, student_temperature=1.0,
                                  teacher_temperature=None, impl="cpu")  # fmt: skip
        found += torch.autograd.grad((rows * weights).sum(), student)
    assert torch.equal(found[0].to(dtype).nan_to_num(), found[1].nan_to_num())
    assert torch.equal(found[0].to(dtype).isnan(), found[1].isnan())


@each_implementation
@pytest.mark.parametrize("students, teachers, rows, width, depth", [
    (3, 2, 7, 1000, 16), (1, 1, 1, 1, 1), (1, 1, 30, 193, 5), (2, 1, 300, 2000, 33),
])  # fmt: skip
@pytest.mark.parametrize("normalized", [False, True])
def test_prototypes(impl, students, teachers, rows, width, depth, normalized):
    sizes = (students, teachers, rows, width, depth)
    check_prototype_cross_entropy(impl, *sizes, normalized=normalized, floor=2e-6)


@each_implementation
@each_dtype
@pytest.mark.parametrize("normalized", [False, True])
def test_prototypes_as_exact_as_eager(impl, dtype, normalized):
    check_prototype_cross_entropy(impl, 4, 2, 12, 3000, 32, normalized=normalized, dtype=dtype)


@each_implementation
def test_features_of_half_and_prototypes_of_full_precision(impl):
    x, w = torch.randn(9, 8).bfloat16().requires_grad_(), torch.randn(50, 8, requires_grad=True)
    y, v = torch.randn(9, 8).bfloat16(), torch.randn(50, 8)
    rows = prototype_cross_entropy(x, w, y, v, impl=impl)
    expected = soft_cross_entropy(x.float() @ w.T, y.float() @ v.T)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected)
    for a, b in zip(*(torch.autograd.grad(r.sum(), (x, w)) for r in (rows, expected)),
                    strict=True):  # fmt: skip
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-2 if a is not w else 1e-5, atol=1e-5)


@each_implementation
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads_do_not_change_a_bit(impl, threads):
    student, teacher = torch.randn(3, 7, 20_000), torch.randn(2, 7, 20_000)
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, threads) if impl == "cpu" else (threads, threads):
            torch.set_num_threads(count)
            x = student.clone().requires_grad_()
            rows = soft_cross_entropy(x, teacher, impl=impl)
            found.append((rows, *torch.autograd.grad(rows.square().sum(), x)))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@each_implementation
def test_accurate_where_the_student_agrees(impl):
    """There the loss is a small difference of large numbers, unless computed with care."""
    logits = torch.randn(20, 3000)
    logits[:, 7] = logits.amax(1) + 1.4
    rows = soft_cross_entropy(logits, logits, student_temperature=0.1, teacher_temperature=0.1,
                              impl=impl)  # fmt: skip
    exact = soft_cross_entropy(logits.double(), logits.double(), student_temperature=0.1,
                               teacher_temperature=0.1, impl="reference")  # fmt: skip
    assert exact.max() < 1e-4
    assert torch.allclose(rows.double(), exact, rtol=1e-5, atol=1e-6)


@each_implementation
@pytest.mark.parametrize("size", [0.0, 1e4, 3e37])
def test_extreme_logits_are_finite(impl, size):
    student = (size * torch.randn(2, 3, 100)).requires_grad_()
    rows = soft_cross_entropy(student, size * torch.randn(1, 3, 100), student_temperature=1.0,
                              teacher_temperature=1.0, impl=impl)  # fmt: skip
    assert torch.isfinite(rows).all()
    assert torch.isfinite(torch.autograd.grad(rows.sum(), student)[0]).all()


@each_implementation
def test_nan_stays_in_the_rows_that_it_enters(impl):
    student, teacher = torch.randn(2, 4, 50), torch.randn(2, 4, 50)
    student[0, 1, 20] = NAN
    teacher[1, 2, 49] = NAN
    pairs = torch.ones(2, 2).fill_diagonal_(0)
    x = student.requires_grad_()
    rows = soft_cross_entropy(x, teacher, pairs=pairs, impl=impl)
    expected = torch.tensor([[False, True, True, False], [False] * 4])
    assert torch.equal(rows.isnan(), expected)
    (grad,) = torch.autograd.grad(rows[~expected].sum(), x)
    assert torch.isfinite(grad[~expected]).all()


@each_implementation
def test_strides(impl):
    base, other = torch.randn(3, 50, 5, 2), torch.randn(50, 2, 5)
    student = base.permute(3, 2, 1, 0)[..., 1].requires_grad_()  # (2, 5, 50), columns apart
    teacher = other.permute(1, 2, 0)
    expected = soft_cross_entropy(student.contiguous(), teacher.contiguous(), impl="reference")
    rows = soft_cross_entropy(student, teacher, impl=impl)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x.sum(), student)[0] for x in (rows, expected))
    )
    wide = torch.randn(2, 5, 80)[..., 10:60]
    expanded = torch.randn(1, 1, 50).expand(2, 5, 50)
    torch.testing.assert_close(
        soft_cross_entropy(wide, expanded, impl=impl),
        soft_cross_entropy(wide, expanded, impl="reference"),
    )


@each_implementation
def test_forms_of_views_agree(impl):
    student, teacher = torch.randn(3, 4, 30), torch.randn(2, 4, 30)
    rows = soft_cross_entropy(student, teacher, impl=impl)
    assert rows.shape == (3, 4)
    listed = soft_cross_entropy(list(student), [x.clone() for x in teacher], impl=impl)
    assert torch.equal(rows, listed)
    one = soft_cross_entropy(student[0], teacher, impl=impl)
    assert one.shape == (4,)
    assert torch.equal(one, rows[0])
    leaves = [x.clone().requires_grad_() for x in student]
    grads = torch.autograd.grad(
        soft_cross_entropy(leaves, teacher, impl=impl).sum(), [leaves[0], leaves[2]]
    )
    whole = student.clone().requires_grad_()
    (expected,) = torch.autograd.grad(soft_cross_entropy(whole, teacher, impl=impl).sum(), whole)
    assert torch.equal(torch.stack(grads), expected[[0, 2]])


@each_implementation
def test_gradients_of_rows_sum_to_nothing(impl):
    """Adding a constant to a row of logits changes no distribution."""
    student = torch.randn(2, 5, 300, requires_grad=True)
    rows = soft_cross_entropy(student, torch.randn(2, 5, 300), impl=impl)
    (grad,) = torch.autograd.grad(rows.sum(), student)
    assert grad.sum(2).abs().max() <= 1e-5 * grad.abs().sum(2).max()


def test_views_of_two_dtypes():
    student, teacher = torch.randn(2, 5, 30).bfloat16(), torch.randn(1, 5, 30)
    rows = soft_cross_entropy(student, teacher)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, soft_cross_entropy(student.float(), teacher))
    rows = soft_cross_entropy(student, teacher.double())
    assert rows.dtype == torch.float64
    torch.testing.assert_close(
        rows, soft_cross_entropy(student.double(), teacher.double(), impl="reference")
    )


X = torch.randn(2, 4, 8)


@pytest.mark.parametrize("arguments, options, error, message", [
    ((X, torch.randn(2, 5, 8)), {}, ValueError, "agree in rows B and prototypes K"),
    ((X, torch.randn(2, 4, 9)), {}, ValueError, r"\(4, 9\)"),
    ((X, torch.randn(4)), {}, ValueError, r"got \(4,\)"),
    ((X[:, :0], X[:, :0]), {}, ValueError, "none of them empty"),
    (([], X), {}, ValueError, "no views"),
    (([X[0], X[1, :2]], X), {}, ValueError, r"\(4, 8\), \(2, 8\)"),
    (([X[0], X[1].double()], X), {}, ValueError, "one dtype"),
    ((X.int(), X), {}, TypeError, "int32"),
    ((None, X), {}, TypeError, "student"),
    (([X[0], 3], X), {}, TypeError, "student must be a torch.Tensor, got 3"),
    ((X, X), {"student_temperature": 0}, ValueError, "student_temperature .* got 0"),
    ((X, X), {"teacher_temperature": -1.0}, ValueError, "teacher_temperature .* got -1"),
    ((X, X), {"teacher_temperature": NAN}, ValueError, "nan"),
    ((X, X), {"teacher_temperature": None, "center": X[0, 0]}, ValueError, "leave out center"),
    ((X, X), {"center": torch.zeros(3, 1, 8)}, ValueError, r"\(3, 1, 8\)"),
    ((X, X), {"center": torch.zeros(3, 8)}, ValueError, "divides the 4 rows"),
    ((X, X), {"center": 3}, TypeError, "center"),
    ((X, X), {"pairs": torch.ones(2)}, ValueError, r"\(2, 2\), got \(2,\)"),
    ((X, X), {"pairs": [[1, 1], [1, 1]]}, TypeError, "list"),
    ((X, X), {"impl": "fast"}, ValueError, "fast"),
    ((X.double(), X.double()), {"impl": "cpu"}, ValueError, "float64"),
])  # fmt: skip
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message):
        soft_cross_entropy(*arguments, **options)


W, M = torch.randn(20, 8), torch.ones(20)


@pytest.mark.parametrize("arguments, options, error, message", [
    ((X, W[:, :7], X, W), {}, ValueError, r"agree in D.*\(2, 4, 8\) and \(20, 7\)"),
    ((X, W, X, W[:19]), {}, ValueError, "20 and 19"),
    ((X, W, X[:, :3], W), {}, ValueError, r"\(2, 3, 8\)"),
    ((X, W, X.half(), W), {}, TypeError, "float16"),
    ((X, W.double(), X, W), {}, TypeError, "float64"),
    ((X, W, X, W), {"magnitude": M[:3]}, ValueError, r"K = 20, got \(3,\)"),
    ((X, W, X, W), {"teacher_magnitude": 1.0}, TypeError, "magnitude of teacher_prototypes"),
    ((X, W, X, W), {"teacher_temperature": None}, ValueError, "got None"),
    ((X, W[0], X, W), {}, ValueError, "two non-empty dimensions"),
])  # fmt: skip
def test_bad_prototypes(arguments, options, error, message):
    with pytest.raises(error, match=message):
        prototype_cross_entropy(*arguments, **options)


MEMORY = """
import json, resource, torch
from sslkernels import prototype_cross_entropy, soft_cross_entropy
torch.set_num_threads(2)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
x, y = torch.randn(4, 32, 65536), torch.randn(2, 32, 65536)
grad = torch.ones_like(x)  # as large as what the pass will return
before = peak()
del grad
x.requires_grad_()
torch.autograd.grad(soft_cross_entropy(x, y).sum(), x)
first = peak() - before
print(json.dumps([first, x.nbytes]))
"""


def test_memory_beyond_the_gradient_is_small():
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    extra, logits = map(int, out.stdout.strip("[]\n").split(","))
    assert extra <= logits / 5, (extra, logits)


def test_every_combination_of_gradients():
    x, w, g = torch.randn(2, 3, 8), torch.randn(40, 8), torch.rand(40)
    y = torch.randn(1, 3, 8)

    def run(needs, impl):
        leaves = [a.clone().requires_grad_(need) for a, need in zip((x, w, g), needs, strict=True)]
        rows = prototype_cross_entropy(leaves[0], leaves[1], y, w, magnitude=leaves[2], impl=impl)
        return torch.autograd.grad(rows.sum(), [a for a in leaves if a.requires_grad])

    for needs in itertools.product([True, False], repeat=3):
        if any(needs):
            torch.testing.assert_close(run(needs, "tiled"), run(needs, "reference"))


def test_logits_are_kept_only_where_they_are_few():
    """If they fit in one small chunk; otherwise they are recomputed: equal gradients of both."""
    kept = torch.ops.sslkernels.prototype_cross_entropy
    for rows, count, is_kept in ((30, 50, True), (30, 40_000, False), (6000, 150, False)):
        x, y = torch.randn(2, rows, 4), torch.randn(1, rows, 4)
        w = torch.randn(count, 4)
        arguments = (x, w, None, y, w, *[None] * 4, 1.0, True, 0.5, 0.5, "tiled")
        assert (kept(*arguments)[3].numel() > 0) == is_kept
        leaves = [z.clone().requires_grad_() for z in (x, w)]
        double = [z.double().requires_grad_() for z in (x, w)]
        values = []
        for a, b in (leaves, double):
            loss = prototype_cross_entropy(
                a, b, y.to(a), w.to(a), student_temperature=0.5, teacher_temperature=0.5
            ).mean()
            values.append(torch.autograd.grad(loss, (a, b)))
        for ours, exact in zip(*values, strict=True):
            torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-8)
