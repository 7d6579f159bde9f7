"""Builds in advance, on a machine without a GPU, what would take the first minutes on a device.

That is the extension for sm_90a, and Triton's cache: the rehearsal records what the tests would
compile, and the same Triton compiles it here. The keys of the cache are the kernels' source, the
installed Triton and the compiler's options, so it is only valid for the same commit and Triton.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ..machine import commit

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch==2.11.0", "triton==3.6.0", "numpy", "setuptools", "pybind11", "cmake", "ninja",
            "pytest", "pytest-xdist", "hypothesis", "pillow", "scikit-image")  # fmt: skip
ARCHITECTURE = "90a-real"
EXTENSION, CACHE, COMMIT = "_C*.so", "triton.tar.xz", "commit"


def prepare(folder: Path, python: str) -> None:
    """Fill ``folder``, reusing parts that have not changed."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = folder / "environment"
    interpreter = environment / "bin" / "python"
    if not interpreter.exists():
        log_and_run(f"installing {', '.join(PACKAGES[:2])} for {python}",
                    [python, "-m", "venv", environment])  # fmt: skip
        log_and_run("", [interpreter, "-m", "pip", "install", "--quiet", *PACKAGES])
    path = os.pathsep.join([str(interpreter.parent), os.environ["PATH"]])
    build = {"SSLKERNELS_CUDA": "on", "SSLKERNELS_CUDA_ARCHS": ARCHITECTURE, "PATH": path}
    log_and_run(f"building the extension for {ARCHITECTURE}",
                [interpreter, "setup.py", "--quiet", "build_ext", "--build-lib", folder / "lib"],
                **build)  # fmt: skip
    for built in folder.glob("lib/sslkernels/_C*.so"):
        shutil.copy(built, folder)
        shutil.copy(built, ROOT / "sslkernels")
    recordings = [folder / f"{name}-launches.json" for name in ("tests", "speed", "clocks")]
    pytest = [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    log_and_run("rehearsing the tests for a device: what would Triton compile?",
                [*pytest, "-p", "bench.rehearsal.plugin", "--recording", recordings[0],
                 "tests/gpu"])  # fmt: skip
    for recording in recordings[1:]:
        name = recording.stem.partition("-")[0]
        with TemporaryDirectory() as scratch:
            dry = ["--dry", "--out", Path(scratch, "numbers"), "--recording", recording]
            log_and_run(f"rehearsing {name}", [interpreter, "-m", f"bench.device.{name}", *dry])
    for recording in recordings:
        log_and_run(f"compiling {recording.stem}",
                    [interpreter, "-m", "bench.rehearsal.compile", recording],
                    TRITON_CACHE_DIR=str(folder / "triton"),
                    TRITON_STORE_BINARY_ONLY="1")  # fmt: skip
    pack(folder)
    (folder / COMMIT).write_text(commit() or "")
    sizes = {path.name: f"{path.stat().st_size / 2**20:.1f} MiB" for path in carried(folder)}
    print("to be carried: " + ", ".join(f"{name} ({size})" for name, size in sizes.items()))


def log_and_run(about: str, command: list, **environment: str) -> None:
    """Run a command, and log its purpose and its duration."""
    start = time.monotonic()
    if about:
        print(f"{about} …", flush=True)
    outcome = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if outcome.returncode:
        sys.exit(f"failed with status {outcome.returncode}: {' '.join(map(str, command))}")
    if about:
        print(f"  {time.monotonic() - start:.0f} s", flush=True)


def pack(folder: Path) -> None:
    with tarfile.open(folder / CACHE, "w:xz") as archive:
        archive.add(folder / "triton", "triton")


def carried(folder: Path) -> list[Path]:
    """The files that a machine with a device needs."""
    return [folder / CACHE, folder / COMMIT, *folder.glob(EXTENSION)]


def install_prepared(folder: Path) -> None:
    """Copy the extension into the package, and unpack the cache, whose files refer to each other.

    Sets the commit for a copy of the checkout without history.
    """
    if not carried(folder)[0].exists():
        sys.exit(f"{folder} holds no {CACHE}: python -m bench.device --prepare makes one")
    for built in folder.glob(EXTENSION):
        shutil.copy(built, ROOT / "sslkernels")
    os.environ.setdefault("SSLKERNELS_COMMIT", (folder / COMMIT).read_text())
    with tarfile.open(folder / CACHE) as archive:
        archive.extractall(folder, filter="data")
    for group in folder.glob("triton/*/__grp__*.json"):
        content = json.loads(group.read_text())
        here = {name: str(group.parent / name) for name in content["child_paths"]}
        group.write_text(json.dumps({"child_paths": here}))
