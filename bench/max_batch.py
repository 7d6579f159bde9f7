"""The largest batch whose loss and gradients fit in a given memory.

    python -m bench.max_batch --save

For each operation and implementation, finds N such that the peak memory beyond the inputs, forward
and backward, is within the budget, but not at 1.25 N. Each try follows from the power law through
the last two. D is that of the suite of peers. Results are written as they come.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from .__main__ import RESULTS
from .baselines import BASELINES
from .cases import CASES
from .machine import describe_machine, slug
from .memory import CPUMemory, extra_memory_cuda
from .suite import PEERS

OPS = ("nt_xent", "supcon", "clip", "siglip", "moco", "barlow_twins", "vicreg", "dino")
FIRST = 32, 128  # N of the first two tries
STEP = 1.25
TRIES = 12
TEMPERATURE = 0.1
Memory = Callable[[int], float]  # bytes at N; infinity if it cannot run


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.max_batch", description=__doc__)
    parser.add_argument("--budget", type=int, default=64, metavar="MIB")
    parser.add_argument("--op", default=",".join(OPS), metavar="A,B")
    parser.add_argument("--baseline", default="ours,eager,lightly,open-clip,pml", metavar="A,B")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    command = ["python", "-m", "bench.max_batch", *(sys.argv[1:] if argv is None else argv)]
    machine = describe_machine(arguments.device)
    run = {"op": "max_batch", **machine, "command": shlex.join(command)}
    run |= {"budget_mib": arguments.budget, "dtype": "float32", "rows": []}
    path = RESULTS / slug(str(run["device"])) / "max_batch-float32.json"
    for op in arguments.op.split(","):
        for name in arguments.baseline.split(","):
            if not _is_here(op, name):
                continue
            with _memory(op, name, arguments.device) as memory:
                found = largest(memory, arguments.budget * 2**20)
            run["rows"].append({"op": op, "impl": name, "features": PEERS[op][1], "largest": found})
            print(f"{op:<14} D = {PEERS[op][1]:<6} {name:<10} N = {found:>9,}", flush=True)
            if arguments.save:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(run, indent=1))
    if arguments.save:
        print(f"wrote {path}", file=sys.stderr)


def largest(memory: Memory, budget: float) -> int:
    """The largest N, to a factor of ``STEP``, whose memory is within the budget; 0: none found."""
    fits: dict[int, float] = {}
    fails: set[int] = set()

    def attempt(n: int) -> None:
        found = memory(n)
        if found <= budget:
            fits[n] = found
        else:
            fails.add(n)

    for n in FIRST:
        attempt(n)
    for _ in range(TRIES):
        if not fits:
            attempt(max(1, min(fails) // 4))
            continue
        best = max(fits)
        following = math.ceil(best * STEP)
        if any(n <= following for n in fails):
            return best
        predicted = _predict(fits, budget) if len(fits) > 1 else 4 * best
        n = max(following, int(predicted))
        if fails:
            n = max(following, min(n, round(math.sqrt(best * min(fails)))))
        attempt(n)
    return max(fits, default=0)


def _predict(fits: dict[int, float], budget: float) -> float:
    """Nearly the N at which the power law through the two largest that fit reaches the budget."""
    (n0, m0), (n1, m1) = sorted(fits.items())[-2:]
    power = math.log(max(m1, 1) / max(m0, 1)) / math.log(n1 / n0)
    power = min(3.0, max(0.5, power))
    return n1 * min(64.0, (0.97 * budget / max(m1, 1)) ** (1 / power))


def _is_here(op: str, name: str) -> bool:
    try:
        return name in BASELINES[op] and BASELINES[op][name].load(TEMPERATURE) is not None
    except ImportError:
        return False


@contextmanager
def _memory(op: str, name: str, device: str) -> Iterator[Memory]:
    if device == "cuda":
        yield partial(_cuda_memory, op, name)
        return
    with CPUMemory(op, name, torch.float32, TEMPERATURE) as measure:
        yield lambda n: _both_passes(measure((n, PEERS[op][1])))


def _cuda_memory(op: str, name: str, n: int) -> float:
    try:
        inputs = CASES[op].make_inputs((n, PEERS[op][1]), torch.float32, "cuda", TEMPERATURE)
        return _both_passes(extra_memory_cuda(BASELINES[op][name].load(TEMPERATURE), inputs))
    except torch.OutOfMemoryError:
        return math.inf


def _both_passes(memory: dict[str, int] | None) -> float:
    return memory["fwdbwd"] if memory else math.inf


if __name__ == "__main__":
    main()
