"""Extra memory of one implementation: the peak during a pass, minus the memory before it.

On CUDA, from the allocator's counters. On a CPU, from the peak of the resident set in a fresh
process: it includes memory allocated by C++ and libraries, which torch's profilers do not. malloc
is set to return freed blocks at once, so that the resident set follows the live memory.
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
    """Bytes by mode, outputs included; None if the system does not report them."""
    with CPUMemory(op, name, dtype, temperature) as memory:
        return memory(shape)


class CPUMemory:
    """Memory of one implementation, for one shape after another, in a single process."""

    def __init__(self, op: str, name: str, dtype: torch.dtype, temperature: float):
        self._settings = json.dumps([op, name, str(dtype).removeprefix("torch."), temperature])
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, shape: Shape) -> dict[str, int] | None:
        """Bytes by mode, outputs included; None on failure, or if the system reports none."""
        if not Path("/proc/self/clear_refs").exists():
            return None
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.memory", self._settings],
                env=os.environ | ENVIRONMENT,
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        try:
            print(json.dumps(shape), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):  # it died
            self.close()
            return None

    def close(self) -> None:
        """End the process, if there is one; the next shape starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> CPUMemory:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _measure(
    loss: Loss,
    inputs: list[Tensor],
    current: Callable[[], int],
    restart: Callable[[], object],
    peak: Callable[[], int],
) -> dict[str, int]:
    wanted = leaves(inputs)
    torch.autograd.grad(loss(*inputs), wanted)  # warm up threads, libraries and compilers
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
    """Bytes available; infinity if the system does not report them."""
    if device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
    information = Path("/proc/meminfo")
    if not information.exists():
        return float("inf")
    fields = dict(line.split(":") for line in information.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


def main() -> None:
    """Answer each line of the input, a shape, with a line of its bytes by mode, or null."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output goes to stderr
    op, name, dtype, temperature = json.loads(sys.argv[1])
    loss = BASELINES[op][name].load(temperature)
    for line in sys.stdin:
        try:
            inputs = CASES[op].make_inputs(
                json.loads(line), getattr(torch, dtype), "cpu", temperature
            )
            extra = _measure(
                loss,
                inputs,
                lambda: resident("VmRSS"),
                lambda: Path("/proc/self/clear_refs").write_text("5"),
                lambda: resident("VmHWM"),
            )
        except (MemoryError, RuntimeError):  # torch raises it too if out of memory
            extra = None
        inputs = None
        print(json.dumps(extra), file=answers, flush=True)


if __name__ == "__main__":
    main()
