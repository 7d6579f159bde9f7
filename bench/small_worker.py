"""Passes timed one at a time; as a program, those of the checkout in which it is started."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from bench.baselines import BASELINES
from bench.cases import CASES
from bench.measure import Pass

TEMPERATURE = 0.1
WARM_UP = 3


def sampler(op: str, who: str, rows: int, features: int, threads: int) -> Callable[[], float]:
    """A function that runs one forward and one backward pass and returns microseconds."""
    torch.set_num_threads(threads)
    inputs = CASES[op].make_inputs((rows, features), torch.float32, "cpu", TEMPERATURE)
    run = Pass(BASELINES[op][who].load(TEMPERATURE), inputs)

    def sample() -> float:
        start = time.perf_counter()
        run.forward()
        run.backward()
        return 1e6 * (time.perf_counter() - start)

    for _ in range(WARM_UP):
        sample()
    return sample


def answer() -> None:
    """One line for each line of the input: "load <sampler's arguments>" or "sample"."""
    sample = None
    for line in sys.stdin:
        command, *words = line.split()
        if command == "load":
            op, who, *sizes = words
            sample = sampler(op, who, *map(int, sizes))
            print("ready", flush=True)
        else:
            print(sample(), flush=True)


if __name__ == "__main__":
    answer()
