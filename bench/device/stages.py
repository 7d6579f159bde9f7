"""The stages on a device, in order of importance; each has a process and a time limit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TESTS, SPEED, CLOCKS, MACHINE = "tests.jsonl", "speed.jsonl", "clocks.jsonl", "machine.json"
EDGES = "edges or ragged or nan or repeats_without"
ALONE = "memory or offsets"  # tests that measure the device's memory, or use much of it
COMPILED = "compiles"
HOST_CORES = max(1, (os.cpu_count() or 2) - 2)


@dataclass(frozen=True)
class Stage:
    """A part of the run.

    Attributes:
        seconds: its share of a run of five minutes; time left by earlier stages is added.
        command: returns the command, for a results folder and whether this is a dry run.
        environment: additional environment variables.
    """

    name: str
    about: str
    seconds: float
    command: Callable[[Path, bool], list[str]]
    environment: tuple[tuple[str, str], ...] = ()


def module(name: str, results: str) -> Callable[[Path, bool], list[str]]:
    """``python -m name``, which writes to a results file."""

    def command(folder: Path, dry: bool) -> list[str]:
        return [sys.executable, "-m", name, "--out", str(folder / results), *["--dry"] * dry]

    return command


def tests(chosen: str, processes: int) -> Callable[[Path, bool], list[str]]:
    """The tests of tests/gpu selected by ``chosen``, except those that have already passed."""

    def command(folder: Path, dry: bool) -> list[str]:
        workers = ["-n", str(processes), "--dist", "worksteal"] if processes > 1 and not dry else []
        rehearsed = ["-p", "bench.rehearsal.plugin", "--every", "40"] if dry else []
        return [
            *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
            *("-p", "bench.device.outcomes", "--outcomes", str(folder / TESTS)),
            *(*rehearsed, *workers, "-k", chosen, "tests/gpu"),
        ]

    return command


def sanitizer(folder: Path, dry: bool) -> list[str]:
    """Some edge cases, with every access to device memory checked."""
    tool = [] if dry else ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "1"]
    chosen = "(edges or ragged) and bfloat16 and not 20000 and not 5000"
    rehearsed = ["-p", "bench.rehearsal.plugin", "--every", "40"] if dry else []
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    return [*tool, *pytest, *rehearsed, "-k", chosen, "tests/gpu"]


STAGES = (
    Stage("machine", "what is there; does Triton's cache hit?", 15,
          module("bench.device.machine", MACHINE)),
    Stage("edges", "every kernel against float64 where shapes are odd", 40,
          tests(EDGES, HOST_CORES)),
    Stage("correct", "all other tests but the next two stages'", 90,
          tests(f"not ({ALONE} or {COMPILED})", HOST_CORES)),
    Stage("speed", "each loss beside plain torch, the most used first", 70,
          module("bench.device.speed", SPEED)),
    Stage("clocks", "clocks per tile, beside those that the model predicts", 20,
          module("bench.device.clocks", CLOCKS)),
    Stage("alone", "memory, and offsets beyond 32 bits", 25, tests(ALONE, 1)),
    Stage("sanitizer", "out-of-bounds accesses of a few edge cases", 20, sanitizer,
          (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)),
    Stage("compiled", "under torch.compile", 20, tests(COMPILED, min(4, HOST_CORES))),
)  # fmt: skip
