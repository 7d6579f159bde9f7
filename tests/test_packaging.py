"""Installation: with nvcc, without a driver, without any compiler."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import sslkernels
from sslkernels import __main__ as report
from sslkernels import _ext
from sslkernels.primitives import _arguments

ROOT = Path(__file__).parents[1]


def test_the_extension_is_built_where_it_can_be():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    assert _ext.HAS_EXTENSION
    assert _ext._C.instruction_sets()[-1] == "baseline"
    assert not _ext._C.use_instruction_set("abacus")


def test_cuda_code_is_compiled_where_torch_has_cuda():
    """Without CUDA, test_cuda_targets.py compiles it."""
    expected = shutil.which("nvcc") is not None and torch.version.cuda is not None
    assert expected == _ext.HAS_CUDA_EXTENSION
    if expected and not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA driver|no CUDA-capable device"):
            _ext._C.cuda_pairwise_logsumexp_reduce(0, 0, 1, 1, 0, 0, 0)


def install(source: Path, target: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps"),
            *("--target", target, source),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def source(tmp_path):
    pytest.importorskip("pybind11")
    for name in ("cmake", "ninja"):
        if not shutil.which(name) and not Path(sys.executable).with_name(name).exists():
            pytest.skip(f"no {name}")
    for name in ("csrc", "sslkernels"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=ignored)
    for name in (
        "setup.py",
        "pyproject.toml",
        "CMakeLists.txt",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    return tmp_path / "source"


def test_without_a_compiler_it_installs_as_pure_python_and_says_so(source, tmp_path):
    target = tmp_path / "site"
    outcome = install(source, target, CXX="/no/such/compiler", SSLKERNELS_CUDA="auto")
    said = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0, said
    assert "sslkernels: installing pure Python" in said
    without_cuda = torch.version.cuda is None and shutil.which("nvcc") is not None
    assert ("torch has no CUDA here: csrc/cuda is left out" in said) == without_cuda
    code = f"""
import torch, sslkernels, sslkernels._ext
from sslkernels.data import load_digits
assert sslkernels.__file__.startswith({str(target)!r})
assert not sslkernels._ext.HAS_EXTENSION
out = torch.randn(8, 4, requires_grad=True)
sslkernels.NTXentLoss()(out, torch.randn(8, 4)).backward()
load_digits()
"""
    python = [sys.executable, "-S"]
    subprocess.run([*python, "-c", code], check=True, cwd=tmp_path, env=site(target))
    report = subprocess.run(
        [*python, "-m", "sslkernels"],
        check=True,
        cwd=tmp_path,
        env=site(target),
        capture_output=True,
        text=True,
    )
    assert "no C++ kernels" in report.stdout and "circular" not in report.stdout
    assert re.search(r"CPU tensors +tiled +tiled", report.stdout)


def test_a_source_folder_that_hides_the_package_is_named(source):
    command = [sys.executable, "-S", "-m", "sslkernels"]
    report = subprocess.run(
        command, check=True, cwd=source, env=site(source), capture_output=True, text=True
    )
    said = " ".join(report.stdout.split())
    assert f"Python imports the source folder {source / 'sslkernels'}" in said
    assert "pip install -e ." in said


def site(target: Path) -> dict[str, str]:
    """The installed packages, without the editable install of this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path[1:]])}


def test_a_release_build_fails_without_a_compiler(source, tmp_path):
    outcome = install(
        source,
        tmp_path / "site",
        CXX="/no/such/compiler",
        SSLKERNELS_CUDA="off",
        SSLKERNELS_EXTENSION="required",
    )
    assert outcome.returncode != 0
    assert "installing pure Python" not in outcome.stdout + outcome.stderr


def test_a_source_distribution_holds_what_a_build_needs(source):
    code = "from setuptools.build_meta import build_sdist; print(build_sdist('.'))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=source, capture_output=True)
    (archive,) = source.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    csrc = {x.relative_to(ROOT).as_posix() for x in ROOT.glob("csrc/**/*") if x.is_file()}
    assert csrc | {"CMakeLists.txt", "LICENSE", "setup.py", "sslkernels/py.typed"} <= names
    assert "sslkernels/data/digits/digits.npz" in names
    assert not {x for x in names if x.startswith(("bench", "tests")) or x.endswith(".so")}


@pytest.mark.parametrize("compiler", ["g++", "clang++", "aarch64-linux-gnu-g++"])
def test_one_thread_is_enough_for_any_compiler(compiler, tmp_path):
    """Without OpenMP and without x86's instructions; parallel loops are then plain ones."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    options = ["-std=c++17", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"]
    sources = sorted(ROOT.glob("csrc/cpu/*.cpp"))
    assert len(sources) > 5
    defined = ["-DSSLKERNELS_ISA=baseline", f"-I{ROOT / 'csrc/include'}"]
    outcome = subprocess.run(
        [compiler, *options, *defined, "-fsyntax-only", *sources], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]


def test_cuda_on_fails_loudly(source, tmp_path):
    outcome = install(source, tmp_path / "site", SSLKERNELS_CUDA="on", CUDA_HOME="/no/such/folder")
    assert outcome.returncode != 0
    assert "SSLKERNELS_CUDA=on, but nvcc was not found" in outcome.stdout + outcome.stderr


def test_wrong_mode_is_named(source, tmp_path):
    outcome = install(source, tmp_path / "site", SSLKERNELS_CUDA="maybe")
    assert outcome.returncode != 0
    assert "must be auto, on or off; got 'maybe'" in outcome.stdout + outcome.stderr


def test_the_compiler_of_torch_is_not_loaded():
    """It takes longer to load than the package."""
    code = "import sys, sslkernels; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_loss_on_a_cpu_imports_no_triton():
    code = """
import sys, torch
before = set(sys.modules)  # torch may have imported it
import sslkernels
x = torch.randn(8, 4, requires_grad=True)
sslkernels.NTXentLoss()(x, torch.randn(8, 4)).backward()
sslkernels.BarlowTwinsLoss()(x, torch.randn(8, 4)).backward()
found = {x for x in set(sys.modules) - before if x.partition(".")[0] in ("sympy", "triton")}
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_tells_what_computes(capsys):
    report.main()
    told = capsys.readouterr().out
    assert version("sslkernels") in told and torch.__version__ in told
    assert max(map(len, told.splitlines())) <= 80
    if _ext.HAS_EXTENSION:
        assert f"{_ext._C.instruction_sets()[0]} in use" in told
        assert re.search(r"CPU tensors +cpu +cpu +cpu +tiled\n", told)


def test_the_report_tells_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(_arguments, "HAS_TRITON", False)
    monkeypatch.setattr(_arguments, "HAS_EXTENSION", False)
    monkeypatch.setattr(_ext, "_C", None)
    monkeypatch.setattr(_ext, "_reason", "no such file", raising=False)
    monkeypatch.setattr(report, "installed", lambda *distributions: None)
    report.main()
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert re.search(r"CPU tensors( +tiled){4}\n", told)
    assert re.search(r"CUDA tensors( +tiled){4}\n", told)
    assert "no such file" in told and "C++ compiler" in told
    for name in ("triton", "pillow", "lightly", "pytorch-metric-learning"):
        assert re.search(rf"  {name} +missing: .*\n +pip install {name}\n", told)


def test_parts_are_there_without_being_imported_by_name():
    code = (
        "import sslkernels, sys; before = set(sys.modules);"
        "assert not {'matplotlib', 'sslkernels.data', 'sslkernels.plots'} & before;"
        "sslkernels.metrics.rankme, sslkernels.data.recipes, sslkernels.plots;"
        "print(sslkernels.__version__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == version("sslkernels")
    with pytest.raises(AttributeError, match="no attribute 'losess'"):
        sslkernels.losess  # noqa: B018
