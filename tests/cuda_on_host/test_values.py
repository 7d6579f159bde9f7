"""Values of the CUDA C++ kernels, compiled for the host, with threads as coroutines."""

import importlib.util
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from oracle import check_sinkhorn
from soft_cross_entropy_oracle import check_prototype_cross_entropy, check_soft_cross_entropy

from sslkernels import _ext, pairwise_logsumexp, sinkhorn, soft_cross_entropy

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# two warps with 16 elements per thread make chunks of 1024 columns, a cluster of 8 blocks takes 8
CHUNK = 1024


@pytest.fixture(scope="session")
def on_host(tmp_path_factory):
    """``sslkernels._C`` with its CUDA part compiled for the host."""
    pybind11 = pytest.importorskip("pybind11")
    for program in ("cmake", "ninja", "c++"):
        if not shutil.which(program, path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}"):
            pytest.skip(f"no {program}")
    build = tmp_path_factory.mktemp("cuda_on_host")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_FLAGS_RELEASE": "-O1",  # fast to compile, and fast enough
        "CMAKE_INTERPROCEDURAL_OPTIMIZATION": "OFF",
        "SSLKERNELS_CUDA_ON_HOST": "ON",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    flags = [f"-D{name}={value}" for name, value in options.items()]
    for command in (["-S", ROOT, "-B", build, "-G", "Ninja", *flags], ["--build", build]):
        outcome = subprocess.run([program_path("cmake"), *command], capture_output=True, text=True)
        assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-4000:]
    (library,) = build.glob("_C*.so")
    spec = importlib.util.spec_from_file_location("_C", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program_path(name):
    return shutil.which(name) or Path(sys.executable).with_name(name)


@pytest.fixture(autouse=True)
def cuda(on_host, monkeypatch):
    """``impl="cuda"`` accepts CPU tensors."""
    monkeypatch.setattr(_ext, "_C", on_host)
    for primitive in ("pairwise_logsumexp", "sinkhorn", "soft_cross_entropy"):
        rooms = f"sslkernels.primitives.{primitive}"
        monkeypatch.setattr(import_module(f"{rooms}.cuda"), "stream", lambda x: 0)
        monkeypatch.setattr(import_module(f"{rooms}.api"), "choose", lambda impl, *_: impl)


@pytest.fixture(params=["9", "8"], ids=["clusters", "no clusters"])
def architecture(request, monkeypatch):
    monkeypatch.setenv("CUDA_ON_HOST_MAJOR", request.param)


def both_orders(monkeypatch, function):
    """The result, which must not depend on the order of threads, or a barrier is missing."""
    results = []
    for order in ("1", "-1"):
        monkeypatch.setenv("CUDA_ON_HOST_ORDER", order)
        results.append(function())
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    return results[0]


@each_dtype
@pytest.mark.parametrize("students, teachers, rows, width, options", [
    (3, 2, 3, 5000, {}), (1, 1, 6, 700, {"centers": (1, 3)}), (2, 3, 2, 2100, {"centers": (3, 1)}),
    (2, 4, 2, 1500, {"listed": True}), (2, 1, 2, 300, {"centers": None, "size": 10.0}),
    (3, 2, 2, 1200, {"teacher_temperature": None}),
], ids=str)  # fmt: skip
def test_cross_entropy_as_exact_as_eager(dtype, students, teachers, rows, width, options):
    sizes = (students, teachers, rows, width)
    check_soft_cross_entropy("cuda", *sizes, **options, dtype=dtype, draws=2, floor=2e-6)


@pytest.mark.parametrize("width", [1, 7, CHUNK, CHUNK + 1, 3 * CHUNK, 8 * CHUNK + 5, 17 * CHUNK])
def test_cross_entropy_of_any_width(architecture, width):
    check_soft_cross_entropy("cuda", 2, 2, 1, max(2, width), draws=2, floor=2e-6)


def test_more_students_than_a_launch_takes():
    check_soft_cross_entropy("cuda", 70, 2, 2, 40, draws=2, floor=2e-6)


def test_as_many_students_at_a_time_as_the_memory_of_a_block_allows(monkeypatch):
    """With their 9 * CHUNK prototypes, 64 students and 4 teachers would need 20 KiB."""
    monkeypatch.setenv("CUDA_ON_HOST_MEMORY", str(12 * 1024))
    check_soft_cross_entropy("cuda", 64, 4, 1, 9 * CHUNK, draws=1, floor=2e-6)
    monkeypatch.setenv("CUDA_ON_HOST_MEMORY", "2000")
    with pytest.raises(ValueError, match="too many for this device; use impl='triton'"):
        check_soft_cross_entropy("cuda", 1, 4, 1, 9 * CHUNK, draws=1)


@each_dtype
@pytest.mark.parametrize("normalized", [False, True])
def test_prototypes(dtype, normalized):
    sizes = (3, 2, 4, 700, 8)
    check_prototype_cross_entropy(
        "cuda", *sizes, normalized=normalized, dtype=dtype, draws=2, floor=2e-6
    )


def test_cross_entropy_in_any_order(architecture, monkeypatch):
    student, teacher = torch.randn(3, 2, 3000), torch.randn(2, 2, 3000)

    def step():
        leaf = student.clone().requires_grad_()
        rows = soft_cross_entropy(leaf, teacher, impl="cuda")
        return rows, *torch.autograd.grad(rows.sum(), leaf)

    both_orders(monkeypatch, step)


def test_cross_entropy_of_any_memory():
    wide = torch.randn(2, 3, 999)
    x, teacher = wide[..., 3:903], torch.randn(2, 3, 900)  # rows that start anywhere
    torch.testing.assert_close(
        soft_cross_entropy(x, teacher, impl="cuda"),
        soft_cross_entropy(x.contiguous(), teacher, impl="cuda"), rtol=0, atol=0,
    )  # fmt: skip


def test_cross_entropy_of_nan_and_infinity():
    student, teacher = torch.randn(2, 3, 1500), torch.randn(2, 3, 1500)
    teacher[..., 700:1200] = -float("inf")
    rows = soft_cross_entropy(student, teacher, impl="cuda")
    expected = soft_cross_entropy(student.double(), teacher.double(), impl="reference")
    torch.testing.assert_close(rows.double(), expected, rtol=1e-5, atol=0)
    for value in (float("nan"), float("inf")):
        bad_student, bad_teacher = student.clone(), teacher.clone()
        bad_student[0, 1, 1499], bad_teacher[1, 2, 7] = value, value
        leaf = bad_student.requires_grad_()
        rows = soft_cross_entropy(leaf, bad_teacher, pairs=torch.eye(2), impl="cuda")
        (grad,) = torch.autograd.grad(rows.sum(), leaf)
        for found in (rows, grad.amax(2)):
            assert found.isnan().nonzero().tolist() == [[0, 1], [1, 2]]
    teacher[0, 0] = -float("inf")  # all of it
    assert soft_cross_entropy(student, teacher, impl="cuda")[:, 0].isnan().all()


def test_too_many_teachers():
    with pytest.raises(ValueError, match="up to 4 teachers, got 5; use impl='triton'"):
        soft_cross_entropy(torch.randn(2, 3, 9), torch.randn(5, 3, 9), impl="cuda")


@each_dtype
@pytest.mark.parametrize("shape", [
    (1, 1), (5, 300), (40, 3), (7, 4000), (3, 9001), (2, 20, 130), (9, 2049),
], ids=str)  # fmt: skip
def test_sinkhorn_as_exact_as_eager(tiled_columns, dtype, shape):
    check_sinkhorn("cuda", shape, dtype=dtype, draws=2, floor=1e-6)


def test_sinkhorn_without_clusters(tiled_columns, monkeypatch):
    monkeypatch.setenv("CUDA_ON_HOST_MAJOR", "8")
    for width in (300, 700, 1300, 2048):
        check_sinkhorn("cuda", (5, width), draws=2, floor=1e-6)
    with pytest.raises(ValueError, match="2049 prototypes are too many"):
        sinkhorn(torch.randn(5, 2049), impl="cuda")


@pytest.mark.parametrize("width", [20000, 32768])
def test_sinkhorn_of_the_largest_clusters(tiled_columns, width):
    check_sinkhorn("cuda", (3, width), draws=2, floor=1e-6)


@pytest.mark.parametrize("integer", [torch.int64, torch.int32], ids=str)
def test_sinkhorn_of_the_first_rows(tiled_columns, integer):
    logits = torch.randn(2, 20, 700)
    for count in (0, 1, 17, 20, 1000):
        held = logits.clone()
        held[..., count:, :] = float("nan")
        rows = torch.tensor(count, dtype=integer)
        ours = sinkhorn(held, 0.3, rows=rows, impl="cuda")
        expected = sinkhorn(logits.double(), 0.3, rows=rows, impl="reference")
        torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


def test_sinkhorn_in_any_order(tiled_columns, monkeypatch):
    logits = torch.randn(2, 9, 1300)
    both_orders(monkeypatch, lambda: sinkhorn(logits, impl="cuda"))


def test_sinkhorn_is_finite_where_the_linear_domain_is_not(tiled_columns):
    logits = torch.randn(64, 200)
    logits[0, 0], logits[5, 7] = 3.6, 30
    logits[9] -= 3
    logits[10] -= 60
    logits[:, 11] -= 40
    for x in (logits, logits.half()):
        expected = sinkhorn(x.double(), 0.04, impl="reference")
        ours = sinkhorn(x, 0.04, impl="cuda").double()
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.fixture
def tiled_columns(monkeypatch):
    """torch's passes where there is no CUDA kernel."""
    from sslkernels.primitives.sinkhorn import cuda, tiled

    monkeypatch.setattr(cuda, "columns", tiled.columns)


@each_dtype
def test_logsumexp(dtype, monkeypatch):
    q, k = (torch.randn(n, 8).to(dtype).requires_grad_() for n in (70, 90))

    def step(impl="cuda", q=q, k=k):
        results = pairwise_logsumexp(q, k, 3.0, exclude=(0, 5), columns=True, impl=impl)
        total = sum((x * torch.linspace(-1, 1, len(x))).sum() for x in results)
        return *results, *torch.autograd.grad(total, [q, k])

    exact = step("reference", *(x.detach().double().requires_grad_() for x in (q, k)))
    for a, b in zip(both_orders(monkeypatch, step), exact, strict=True):
        tolerance = 2e-6 if a.dtype == torch.float32 else torch.finfo(dtype).eps
        assert (a.double() - b).norm() <= tolerance * b.norm()
