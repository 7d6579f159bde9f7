"""The CUDA C++ kernels, compiled for sm_90a without a GPU: no stack memory."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
USAGE = re.compile(
    r"entry function '(\w+)' for '(sm_\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_no_stack_registers_for_a_whole_block_and_no_driver_to_load(tmp_path):
    sources, library = sorted(CSRC.glob("cuda/*.cu")), tmp_path / "kernels.so"
    target = ["-gencode=arch=compute_90a,code=sm_90a", "-Xptxas=-v"]
    build = ["-std=c++17", "-O3", f"-I{CSRC / 'include'}", "-shared", "-Xcompiler=-fPIC"]
    outcome = subprocess.run(
        ["nvcc", *build, *target, *sources, "-o", library], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    kernels = USAGE.findall(outcome.stderr)
    assert len(kernels) > 2 * len(sources)
    for name, arch, *stack, registers in kernels:
        assert stack == ["0", "0", "0"], f"{name} {arch} {stack}"
        assert int(registers) * 512 <= 65536, f"{name} {arch}: {registers} registers"
    ctypes.CDLL(str(library))
