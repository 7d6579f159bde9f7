import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_cuda_host_code_without_a_device():
    """Which takes a process of its own, since torch.cuda and Triton are replaced in it.

    Of the tests for a device a share comes along: each function, with some of its parameters.
    """
    pytest.importorskip("triton")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-p", "bench.rehearsal.plugin", "--every", "40", TESTS / "rehearsal", TESTS / "gpu"],
        cwd=TESTS.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    print(outcome.stdout)
    assert outcome.returncode == 0, outcome.stdout[-8000:] + outcome.stderr[-2000:]
