import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_triton_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    folder = Path(__file__).parent / "interpreter"
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    print(outcome.stdout)
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-2000:]
