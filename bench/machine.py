"""The machine and the software versions of a result."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from sslkernels import _ext


def describe_machine(device: str) -> dict[str, object]:
    """The machine and the software versions of a run."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "cpu": _cpu_name(),
        "instruction_sets": _ext.extension().instruction_sets() if _ext.HAS_EXTENSION else [],
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],  # well above 0 on entry: other work makes times noisy
        "torch": torch.__version__,
        "triton": _version("triton"),
        "python": platform.python_version(),
        "sslkernels": _version("sslkernels"),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        match = re.search(r"model name\s*:\s*(.+)", information.read_text())
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(folder: Path | None = None) -> str | None:
    """The commit of the checkout, marked if there are changes; for a copy without history, the
    value of the environment variable SSLKERNELS_COMMIT."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        run = subprocess.run(
            command, cwd=folder or Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SSLKERNELS_COMMIT")
    return run.stdout.strip()
