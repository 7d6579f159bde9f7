"""The CUDA C++ kernels, compiled for each architecture without a GPU: nothing on the stack."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = ("80", "90a")
USAGE = re.compile(
    r"entry function '(\w+)' for '(sm_\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize("source", sorted(CSRC.glob("cuda/*.cu")), ids=lambda path: path.stem)
def test_no_stack_and_registers_for_a_whole_block(source, tmp_path):
    targets = [f"-gencode=arch=compute_{x},code=sm_{x}" for x in ARCHITECTURES]
    command = ["nvcc", "-std=c++17", "-O3", f"-I{CSRC / 'include'}", "-Xptxas=-v", *targets]
    outcome = subprocess.run(
        [*command, "-c", source, "-o", tmp_path / "kernels.o"], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    kernels = USAGE.findall(outcome.stderr)
    assert {arch for _, arch, *_ in kernels} == {f"sm_{x}" for x in ARCHITECTURES}
    for name, arch, *stack, registers in kernels:
        assert stack == ["0", "0", "0"], f"{name} {arch} {stack}"
        assert int(registers) * 512 <= 65536, f"{name} {arch}: {registers} registers"
