import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_cuda_host_code_without_a_device():
    """In a separate process, because it replaces torch.cuda and Triton.

    Includes a share of the tests for a device: each function, with some of its parameters.
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
