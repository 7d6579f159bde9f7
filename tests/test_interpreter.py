import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "interpreter").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_triton_kernels_in_the_interpreter(file):
    """Each file in a separate process: Triton reads the variable when a kernel is defined."""
    pytest.importorskip("triton")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(outcome.stdout)
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-2000:]
