"""The properties of the machine, and whether kernels compiled in advance are found."""

from __future__ import annotations

import json
import subprocess
from collections import Counter

import torch
import triton

from sslkernels import _ext
from sslkernels.functional import nt_xent

from ..machine import describe_machine
from .arguments import stage_arguments


def main() -> None:
    """Print and write them."""
    path = stage_arguments(__doc__).out
    content = describe_machine("cuda") | {"_C with CUDA": _ext.HAS_CUDA_EXTENSION}
    content |= {"nvidia-smi": nvidia_smi(), "Triton's cache": cache_hits()}
    print(json.dumps(content, indent=1))
    path.write_text(json.dumps(content, indent=1) + "\n")


def nvidia_smi() -> str:
    query = "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,temperature.gpu,power.draw"
    try:
        run = subprocess.run(
            ["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return run.stdout.strip()


def cache_hits() -> dict[str, int]:
    """Kernels of a step of NT-Xent found in the cache, and not found."""
    found: Counter[str] = Counter(hit=0, miss=0)

    def count(*, cache_hit: bool, **_: object) -> None:
        found["hit" if cache_hit else "miss"] += 1

    triton.knobs.compilation.listener = count
    z = torch.randn(2, 300, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    nt_xent(*z).backward()
    torch.cuda.synchronize()
    return dict(found)


if __name__ == "__main__":
    main()
