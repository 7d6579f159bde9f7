"""Tests that need a device: values of the compiled kernels, streams, graphs, precision."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph
from soft_cross_entropy_oracle import check_prototype_cross_entropy, check_soft_cross_entropy

from sslkernels import _ext, soft_cross_entropy

pytestmark = pytest.mark.gpu

KERNELS = ["triton", pytest.param("cuda", marks=pytest.mark.skipif(
    not _ext.HAS_CUDA_EXTENSION, reason="sslkernels._C was built without CUDA"))]  # fmt: skip
each_kernel = pytest.mark.parametrize("impl", KERNELS)
each_implementation = pytest.mark.parametrize("impl", [*KERNELS, "tiled"])
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str
)


def step_of(impl, students=4, teachers=2, rows=30, width=9000, dtype=torch.bfloat16, apart=False):
    """Rows and gradients, with students in one tensor or in separate ones."""
    student = torch.randn(students, rows, width, device="cuda", dtype=dtype)
    teacher = torch.randn(teachers, rows, width, device="cuda", dtype=dtype)
    center = torch.randn(width, device="cuda")
    leaves = [x.clone() for x in student] if apart else [student]
    leaves = [x.requires_grad_() for x in leaves]
    teachers = [x.clone() for x in teacher] if apart else teacher
    pairs = torch.ones(len(student), len(teacher), device="cuda").fill_diagonal_(0)

    def step():
        views = leaves if apart else leaves[0]
        rows = soft_cross_entropy(views, teachers, center=center, pairs=pairs, impl=impl)
        return rows, *torch.autograd.grad(rows.sum(), leaves)

    return step


@each_implementation
@each_dtype
@pytest.mark.parametrize("students, teachers, rows, width, options", [
    (10, 2, 16, 8192, {}), (1, 1, 60, 12000, {"centers": (1, 6)}), (2, 1, 2, 70000, {"size": 10.0}),
    (3, 3, 8, 5000, {"centers": (3, 4)}), (2, 4, 8, 3000, {"listed": True}),
    (3, 2, 20, 6000, {"teacher_temperature": None}),
])  # fmt: skip
def test_as_exact_as_eager(impl, dtype, students, teachers, rows, width, options):
    sizes = (students, teachers, rows, width)
    check_soft_cross_entropy(impl, *sizes, **options, dtype=dtype, device="cuda")


@each_kernel
@each_dtype
@pytest.mark.parametrize("students, teachers, rows, width", [
    (1, 1, 1, 2), (2, 1, 3, 7), (1, 2, 1, 4097), (3, 2, 2, 65535), (2, 2, 2, 65538),
    (1, 1, 3, 131072), (2, 2, 1, 262144), (40, 4, 2, 300),
])  # fmt: skip
def test_ragged_and_wide(impl, dtype, students, teachers, rows, width):
    sizes = (students, teachers, rows, width)
    check_soft_cross_entropy(impl, *sizes, dtype=dtype, device="cuda", floor=2e-6)


@pytest.mark.parametrize("teachers", [5, 33, 64])
def test_many_teachers(teachers):
    check_soft_cross_entropy("triton", 2, teachers, 3, 3000, device="cuda", floor=2e-6)


@each_implementation
@each_dtype
@pytest.mark.parametrize("normalized", [False, True])
def test_prototypes(impl, dtype, normalized):
    sizes = (4, 2, 30, 9000, 64)
    check_prototype_cross_entropy(impl, *sizes, normalized=normalized, dtype=dtype, device="cuda")


@each_kernel
@each_dtype
@pytest.mark.parametrize("width", [1000, 65536, 131072])
def test_against_tiled(impl, dtype, width):
    torch.manual_seed(1)
    found = step_of(impl, rows=64, width=width, dtype=dtype)()
    torch.manual_seed(1)
    expected = step_of("tiled", rows=64, width=width, dtype=dtype)()
    for a, b in zip(found, expected, strict=True):
        # both round their gradients once
        tolerance = 1e-5 if a.dtype == torch.float32 else torch.finfo(dtype).eps
        assert (a.double() - b.double()).norm() <= tolerance * b.double().norm()


@each_kernel
def test_offsets_beyond_32_bits(impl):
    """The last of 3 · 20,000 rows of 65,536 logits starts beyond 2^31."""
    student = torch.randn(1, 1, 65536, device="cuda", dtype=torch.bfloat16)
    student = student.repeat(3, 20_000, 1).requires_grad_()
    teacher = torch.randn(1, 1, 65536, device="cuda", dtype=torch.bfloat16).repeat(2, 20_000, 1)
    rows = soft_cross_entropy(student, teacher, impl=impl)
    assert (rows == rows[0, 0]).all()
    (grad,) = torch.autograd.grad(rows.sum(), student)
    assert (grad == grad[0, 0]).all() and grad[0, 0].any()


@each_kernel
@pytest.mark.parametrize("apart", [False, True], ids=["one tensor", "a list"])
@pytest.mark.parametrize("width", [9000, 65536])
def test_bitwise_repeatable(impl, apart, width):
    assert_repeats(step_of(impl, width=width, apart=apart))


@each_kernel
@pytest.mark.parametrize("apart", [False, True], ids=["one tensor", "a list"])
@pytest.mark.parametrize("width", [9000, 65536])
def test_graph_capture_and_no_host_sync(impl, apart, width):
    step = step_of(impl, width=width, apart=apart)
    assert_no_wait(step)
    assert_repeats_as_graph(step)


@each_kernel
@pytest.mark.parametrize("width", [9000, 65536])
def test_other_streams(impl, width):
    student, teacher = (
        torch.randn(2, 30, width, device="cuda", dtype=torch.bfloat16) for _ in range(2)
    )
    expected = soft_cross_entropy(student, teacher, impl=impl)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = student.clone()
        for _ in range(50):
            delayed = delayed * 1.0
        rows = soft_cross_entropy(delayed, teacher, impl=impl)
    stream.synchronize()
    assert torch.equal(rows, expected)


@each_implementation
def test_memory_without_the_distributions(impl):
    """Students of 320 MiB, with gradients of the same size."""
    student = torch.randn(10, 256, 65536, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.randn(2, 256, 65536, device="cuda", dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    rows = soft_cross_entropy(student, teacher, impl=impl)
    limit = (200 if impl == "tiled" else 16) * 2**20
    assert torch.cuda.max_memory_allocated() - before < limit
    torch.autograd.grad(rows.sum(), student)
    assert torch.cuda.max_memory_allocated() - before < limit + student.nbytes


@each_kernel
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped"])
def test_strides(impl, layout):
    x = {
        "transposed": torch.randn(9000, 60).T,
        "sliced": torch.randn(60, 9999)[:, 7:9007],
        "expanded": torch.randn(1, 9000).expand(60, 9000),
        "stepped": torch.randn(120, 18000)[::2, ::2],
    }[layout].cuda()
    teacher = x.flip(0)
    strided = soft_cross_entropy(x, teacher, impl=impl)
    plain = soft_cross_entropy(x.contiguous(), teacher.contiguous(), impl=impl)
    assert torch.equal(strided, plain)


@each_kernel
@pytest.mark.parametrize("width", [5000, 65536])
def test_nan_and_infinity(impl, width):
    student, teacher = (torch.randn(2, 4, width, device="cuda") for _ in range(2))
    student.requires_grad_()
    teacher[..., : width // 2] = -float("inf")  # prototypes that a teacher excludes
    rows = soft_cross_entropy(student, teacher, impl=impl)
    expected = soft_cross_entropy(student.double(), teacher.double(), impl="reference")
    torch.testing.assert_close(rows.double(), expected, rtol=1e-5, atol=0)
    for value in (float("nan"), float("inf")):
        bad_student, bad_teacher = student.detach().clone(), teacher.clone()
        bad_student[0, 1, width - 1], bad_teacher[1, 3, 7] = value, value
        leaf = bad_student.requires_grad_()
        pairs = torch.eye(2, device="cuda")
        rows = soft_cross_entropy(leaf, bad_teacher, pairs=pairs, impl=impl)
        (grad,) = torch.autograd.grad(rows.sum(), leaf)
        for found in (rows, grad.amax(2)):
            assert found.isnan().nonzero().tolist() == [[0, 1], [1, 3]]


@each_kernel
def test_compiles(impl):
    def function(student, teacher, center):
        return soft_cross_entropy(student.tanh(), teacher, center=center, impl=impl).mean()

    student, teacher = (torch.randn(2, 30, 5000, device="cuda") for _ in range(2))
    student.requires_grad_()
    center = torch.randn(5000, device="cuda")
    compiled = torch.compile(function, fullgraph=True)
    values = [f(student, teacher, center) for f in (function, compiled)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0] for x in values))
