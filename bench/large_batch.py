"""One step of NT-Xent at a batch size too large for all other implementations: time, memory, error.

    python -m bench.large_batch --shape 131072x128

The matrix of similarities would need hundreds of GiB, so there is no baseline; instead, sampled
rows are checked against float64.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import pairwise_logsumexp
from sslkernels.functional import nt_xent

from .__main__ import RESULTS, parse_shape
from .machine import slug
from .measure import MODES, Settings
from .memory import resident
from .table import describe_run

TEMPERATURE = 0.1
SAMPLED_ROWS = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step and write its cost; 1 if a sampled row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_batch", description=__doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--shape", type=parse_shape, default=(131072, 128), metavar="NxD")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device)
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    (pairs, features), device = arguments.shape, arguments.device
    dtype = getattr(torch, arguments.dtype)

    command = ["python", "-m", "bench.large_batch", *(sys.argv[1:] if argv is None else argv)]
    run = describe_run(Settings("nt_xent", dtype, device, TEMPERATURE, MODES, 0, 0))
    views = [x.requires_grad_() for x in _views(pairs, features, dtype, device)]
    small = [x.requires_grad_() for x in _views(1024, features, dtype, device)]
    torch.autograd.grad(nt_xent(*small, TEMPERATURE), small)  # warm up threads and kernels
    print(f"{2 * pairs:,} embeddings of {features} features, forward and backward …", flush=True)
    seconds, extra, loss, gradient = _step(views, device)
    error = _sampled_error(views, gradient)
    result = {
        "pairs": pairs,
        "features": features,
        "loss": loss,
        "seconds": seconds,
        "extra_bytes": extra,
        "process_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "similarities_bytes": 4 * (2 * pairs) ** 2,
        "sampled_rows": SAMPLED_ROWS,
        "gradient_error": error,
    }
    print(
        f"{seconds:.2f} s, {extra / 2**20:,.0f} MiB beyond the inputs, "
        f"{result['process_bytes'] / 2**30:.2f} GiB in the whole process; the similarities alone "
        f"would be {result['similarities_bytes'] / 2**30:,.0f} GiB\n"
        f"gradient of {SAMPLED_ROWS} sampled rows: {error:.1e} from float64"
    )
    if arguments.save:
        path = RESULTS / slug(str(run["device"])) / f"large_batch-{arguments.dtype}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**run, "command": shlex.join(command), **result}, indent=1))
        print(f"wrote {path}", file=sys.stderr)
    return int(not error <= (2e-6 if dtype == torch.float32 else 1e-2))


def _views(pairs: int, features: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    base = torch.randn(pairs, features, generator=generator, device=device)
    noise = torch.randn(pairs, features, generator=generator, device=device)
    return [base.to(dtype), noise.add_(base).to(dtype)]


def _step(views: list[Tensor], device: str) -> tuple[float, int, float, Tensor]:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    loss = nt_xent(*views, TEMPERATURE)
    gradient = torch.cat(torch.autograd.grad(loss, views))
    loss = loss.item()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
    return seconds, peak - before, loss, gradient


def _sampled_error(views: list[Tensor], gradient: Tensor) -> float:
    """Relative error of some rows of the gradient.

    Its formula needs the log-sum-exp of every row: ours are used, and sampled ones checked in
    float64.
    """
    x = torch.cat([view.detach() for view in views])
    z = F.normalize(x.float(), dim=1).to(x.dtype)
    rows = pairwise_logsumexp(z, z, 1 / TEMPERATURE, exclude=(0,)).double()
    count = len(z)
    sample = torch.randperm(count, device=z.device)[:SAMPLED_ROWS]
    exact_z = z.double()
    scores = exact_z[sample] @ exact_z.T / TEMPERATURE
    scores[torch.arange(len(sample)), sample] = float("-inf")
    assert (torch.logsumexp(scores, 1) - rows[sample]).abs().max() < 1e-4, "wrong log-sum-exp"
    weights = torch.exp(scores - rows[sample, None]) + torch.exp(scores - rows)
    partner = (sample + count // 2) % count
    exact = (weights @ exact_z - 2 * exact_z[partner]) / (TEMPERATURE * count)
    exact -= exact_z[sample] * torch.linalg.vecdot(exact, exact_z[sample])[:, None]
    exact /= x[sample].double().norm(dim=1, keepdim=True)
    return ((gradient[sample].double() - exact).norm() / exact.norm()).item()


if __name__ == "__main__":
    sys.exit(main())
