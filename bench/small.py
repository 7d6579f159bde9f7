"""Small and medium batches, where launches and Python dominate: ours and plain torch.

    python -m bench.small                                   # every operation, 32 to 1,024 rows
    python -m bench.small --ops nt_xent clip --threads 1
    python -m bench.small --before ../before --save         # and an older checkout, built

Each figure is the median of a forward and a backward pass in float32 on the CPU. All
implementations alternate, round by round, in one run; an older checkout runs in its own process.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import small_worker
from .machine import commit, describe_machine, slug
from .small_worker import sampler

ROWS = (32, 64, 128, 256, 512, 1024)
FEATURES = (128, 512)
PROTOTYPES = {"dino": (4096,), "swav": (500, 3000)}  # instead of features
OPS = (
    "nt_xent", "dcl", "supcon", "clip", "siglip", "moco", "barlow_twins", "vicreg", "dino", "swav",
)  # fmt: skip
FEWEST_ROUNDS = 7
RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    op: str
    rows: int
    features: int
    threads: int
    microseconds: dict[str, float]  # medians, by implementation
    speedup: dict[str, float]  # plain torch over each, median of the rounds' ratios


class Before:
    """``ours`` of an older checkout, in a process that answers line by line.

    It is stopped while others are timed, because its idle threads would spin.
    """

    def __init__(self, tree: Path):
        command = [sys.executable, "-c", Path(small_worker.__file__).read_text()]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        atexit.register(self.process.kill)

    def ask(self, *words: object) -> str:
        self.process.send_signal(signal.SIGCONT)
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        self.process.send_signal(signal.SIGSTOP)
        if not answer:
            raise SystemExit("The older checkout's process ended: is it built?")
        return answer

    def sampler(self, op: str, rows: int, features: int, threads: int) -> Callable[[], float]:
        self.ask("load", op, "ours", rows, features, threads)
        return lambda: float(self.ask("sample"))


def measure(
    op: str, rows: int, features: int, threads: int, before: Before | None, seconds: float
) -> Row:
    who = {
        name: sampler(op, name, rows, features, threads) for name in ("eager", "compile", "ours")
    }
    if before:
        who["before"] = before.sampler(op, rows, features, threads)
    times: dict[str, list[float]] = {name: [] for name in who}
    names, end = list(who), time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["ours"]) < FEWEST_ROUNDS:
        for name in names:
            times[name].append(who[name]())
        names = names[1:] + names[:1]
    ratios = {
        name: [a / b for a, b in zip(times["eager"], x, strict=True)] for name, x in times.items()
    }
    return Row(
        op, rows, features, threads,
        {name: round(statistics.median(x), 1) for name, x in times.items()},
        {name: round(statistics.median(x), 3) for name, x in ratios.items() if name != "eager"},
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Plain torch's time over that of each, by rows: above 1 is faster than plain torch."""
    sizes = sorted({row.rows for row in rows})
    lines = ["| loss | features | threads | of | " + " | ".join(map(str, sizes)) + " |"]
    lines.append("|---" * (4 + len(sizes)) + "|")
    for key in dict.fromkeys((row.op, row.features, row.threads) for row in rows):
        found = {row.rows: row for row in rows if (row.op, row.features, row.threads) == key}
        for who in found[min(found)].speedup:
            cells = (f"{found[n].speedup[who]:.2f}" if n in found else "" for n in sizes)
            lines.append(f"| {' | '.join(map(str, key))} | {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", default=OPS, choices=OPS)
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    parser.add_argument("--features", nargs="+", type=int, default=FEATURES)
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--before", type=Path, help="an older checkout, with its _C built")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing per shape")
    parser.add_argument("--save", action="store_true", help="write bench/results/…/small.json")
    options = parser.parse_args()
    before = Before(options.before.resolve()) if options.before else None
    rows = []
    for op in options.ops:
        for features in PROTOTYPES.get(op, options.features):
            for threads in options.threads:
                for n in options.rows:
                    row = measure(op, n, features, threads, before, options.seconds)
                    rows.append(row)
                    print(op, f"{n}x{features}", f"{threads} threads", row.speedup, flush=True)
    print(table(rows))
    if options.save:
        command = shlex.join(["python", "-m", "bench.small", *sys.argv[1:]])
        run = {"op": "small", **describe_machine("cpu"), "command": command}
        run["before"] = commit(options.before) if options.before else None
        path = RESULTS / slug(str(run["device"])) / "small.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
