import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


def run(file: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_triton_kernels_in_the_interpreter():
    """Which takes a process of its own; one for each file, as many at a time as there are cores."""
    pytest.importorskip("triton")
    files = sorted((Path(__file__).parent / "interpreter").glob("test_*.py"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(run, files))
    print(*(outcome.stdout for outcome in outcomes), sep="\n")
    for outcome in outcomes:
        assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-2000:]
