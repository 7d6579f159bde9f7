"""Extra memory of one implementation: the peak during a pass, less what was there before it.

On CUDA the allocator's counters. On a CPU the peak of the resident set, in a fresh process: it
counts what C++ and libraries allocate, page by page, which no profiler of torch does. There malloc
is told to return freed blocks at once, so that the resident set follows the live memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .baselines import BASELINES, Loss
from .cases import CASES, Shape, leaves

ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MKL_DISABLE_FAST_MM": "1"}


def extra_memory_cuda(loss: Loss, inputs: list[Tensor]) -> dict[str, int]:
    """Bytes by mode, outputs included."""
    return _measure(
        loss,
        inputs,
        torch.cuda.memory_allocated,
        torch.cuda.reset_peak_memory_stats,
        torch.cuda.max_memory_allocated,
    )


def extra_memory_cpu(
    op: str, name: str, shape: Shape, dtype: torch.dtype, temperature: float
) -> dict[str, int] | None:
    """Bytes by mode, outputs included; None where the system cannot tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = [op, name, shape, str(dtype).removeprefix("torch."), temperature]
    process = subprocess.run(
        [sys.executable, "-m", "bench.memory", json.dumps(arguments)],
        env=os.environ | ENVIRONMENT,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    return json.loads(process.stdout.splitlines()[-1]) if process.returncode == 0 else None


def _measure(
    loss: Loss,
    inputs: list[Tensor],
    current: Callable[[], int],
    restart: Callable[[], object],
    peak: Callable[[], int],
) -> dict[str, int]:
    wanted = leaves(inputs)
    torch.autograd.grad(loss(*inputs), wanted)  # threads, libraries and compilers come first
    restart()
    before = current()
    value = loss(*inputs)
    forward_peak = peak()
    restart()
    saved = current()
    gradients = torch.autograd.grad(value, wanted)
    backward_peak = peak()
    del gradients
    extra = {
        "fwd": forward_peak - before,
        "bwd": backward_peak - saved,
        "fwdbwd": max(forward_peak, backward_peak) - before,
    }
    return {mode: max(0, size) for mode, size in extra.items()}


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def available_memory(device: str) -> float:
    """Bytes that can still be had; infinity where the system does not say."""
    if device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
    information = Path("/proc/meminfo")
    if not information.exists():
        return float("inf")
    fields = dict(line.split(":") for line in information.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


if __name__ == "__main__":
    op, name, shape, dtype, temperature = json.loads(sys.argv[1])
    extra = _measure(
        BASELINES[op][name].load(temperature),
        CASES[op].make_inputs(shape, getattr(torch, dtype), "cpu", temperature),
        lambda: resident("VmRSS"),
        lambda: Path("/proc/self/clear_refs").write_text("5"),
        lambda: resident("VmHWM"),
    )
    print(json.dumps(extra))
