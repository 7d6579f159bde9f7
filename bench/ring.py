"""Memory per rank with all-gather and ring, on 1, 2 and 4 ranks (gloo, one thread each).

    python -m bench.ring --save

The global batch is constant, so each rank's share is N/W. The additional memory of a rank is
proportional to the global batch with all-gather, and to its share with the ring.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sslkernels import functional
from sslkernels.distributed import ROUTES, Gather

from .__main__ import RESULTS, parse_shape
from .machine import slug
from .measure import MODES, Settings
from .memory import ENVIRONMENT, resident
from .table import describe_run

RANKS = (1, 2, 4)
LOSSES = {
    "nt_xent": lambda x, y, gather: functional.nt_xent(x, y, 0.1, gather=gather),
    "clip": lambda x, y, gather: functional.clip(x, y, 0.1, gather=gather),
    "siglip": lambda x, y, gather: functional.siglip(x, y, 0.1, -10.0, gather=gather),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.ring", description=__doc__)
    parser.add_argument("--shape", type=parse_shape, default=(16384, 512), metavar="NxD")
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    pairs, features = arguments.shape
    os.environ.update(ENVIRONMENT)  # so that the resident set follows the live memory
    command = ["python", "-m", "bench.ring", *(sys.argv[1:] if argv is None else argv)]
    run = describe_run(Settings("nt_xent", torch.float32, "cpu", 0.1, MODES, 0, 0))
    run |= {"threads": 1, "work": "fwd+bwd"}

    print(f"global batch: {pairs} pairs of {features} features, float32")
    print(f"{'loss':<8} {'ranks':>5} {'route':<5} {'share MiB':>9} {'extra MiB':>9} {'s':>6}")
    rows = []
    for name in LOSSES:
        for ranks in RANKS:
            for route in ROUTES if ranks > 1 else ROUTES[:1]:
                row = _measure(name, ranks, route, pairs, features)
                rows.append(row)
                print(
                    f"{name:<8} {ranks:>5} {route:<5} {row['share_bytes'] / 2**20:>9.1f} "
                    f"{row['extra_bytes'] / 2**20:>9.1f} {row['seconds']:>6.2f}",
                    flush=True,
                )
    if arguments.save:
        path = RESULTS / slug(str(run["device"])) / "ring-float32.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**run, "command": shlex.join(command), "rows": rows}, indent=1))
        print(f"wrote {path}", file=sys.stderr)


def _measure(name: str, ranks: int, route: str, pairs: int, features: int) -> dict[str, object]:
    """Memory and time of the worst rank."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        mp.spawn(_on_rank, (ranks, name, route, pairs // ranks, features, out), ranks)
        found = [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]
    worst = {key: max(row[key] for row in found) for key in ("extra_bytes", "seconds")}
    share = 2 * pairs // ranks * features * 4
    return {"loss": name, "ranks": ranks, "route": route, "share_bytes": share, **worst}


def _on_rank(rank, ranks, name, route, pairs, features, out):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=(out / "meeting_point").as_uri(), rank=rank, world_size=ranks
    )
    torch.manual_seed(rank)
    views = [torch.randn(pairs, features) for _ in range(2)]
    views = [torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in views]
    loss, gather = LOSSES[name], Gather(route)

    def step(*views):
        return torch.autograd.grad(loss(*views, gather), views)

    step(*(x[:256].detach().requires_grad_() for x in views))  # warm up libraries and buffers
    dist.barrier()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    gradients = step(*views)
    seconds = time.perf_counter() - start
    extra = resident("VmHWM") - before
    del gradients
    (out / f"{rank}.json").write_text(json.dumps({"extra_bytes": extra, "seconds": seconds}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
