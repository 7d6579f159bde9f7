"""``python -m bench.device --minutes 5 --out DIR``: correctness first, then speed, on a GPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .page import summary
from .prepare import install_prepared, prepare
from .run import read_summary, run_stages
from .stages import STAGES


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or prepare a run. 1: a stage failed or was cut off; its results so far are kept."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.device",
        description="Test and time everything on a GPU, in stages of which each has a limit. "
        "Results are written as they come: a run that is cut off has delivered what was done. "
        "Started again with the same folder, it does what is missing or failed.",
    )
    names = [stage.name for stage in STAGES]
    add = parser.add_argument
    add("--minutes", type=float, default=5.0, help="for all stages together (default: 5)")
    add("--out", type=Path, metavar="DIR",
        help="of results (default: build/device-run, or build/device-dry)")  # fmt: skip
    add("--resume", type=Path, metavar="DIR", help="as --out, of a run that is there already")
    add("--stages", metavar="A,B", nargs="?", const="", help="only these; none: list them")
    add("--prepared", type=Path, metavar="DIR", help="what --prepare made")
    add("--dry", action="store_true", help="the same without a GPU: tensors have no values")
    add("--prepare", type=Path, metavar="DIR", nargs="?", const=Path("build/device"),
        help="build beforehand, on any machine: the extension and Triton's cache")  # fmt: skip
    add("--python", default="python3.12", help="with --prepare: the device's Python")
    arguments = parser.parse_args(argv)
    if arguments.stages == "":
        print("\n".join(f"{x.name:<10} {x.seconds:3.0f} s of 300  {x.about}" for x in STAGES))
        return 0
    chosen = arguments.stages.split(",") if arguments.stages else names
    if not set(chosen) <= set(names):
        parser.error(f"--stages must be some of {', '.join(names)}; got {arguments.stages}")
    if arguments.prepare:
        prepare(arguments.prepare.resolve(), arguments.python)
        return 0
    if not (arguments.dry or torch.cuda.is_available()):
        parser.error("torch sees no CUDA device; --dry shows the run without one")
    usual = Path("build/device-dry" if arguments.dry else "build/device-run")
    folder = (arguments.resume or arguments.out or usual).resolve()
    if arguments.resume and not folder.is_dir():
        parser.error(f"--resume {arguments.resume}: there is no such folder")
    if any(row["dry"] != arguments.dry for row in read_summary(folder)["stages"].values()):
        parser.error(f"{folder} holds results of a {'real' if arguments.dry else 'dry'} run")
    prepared = arguments.prepared and arguments.prepared.resolve()
    if prepared:
        install_prepared(prepared)
    stages = [stage for stage in STAGES if stage.name in chosen]
    results = run_stages(
        stages, folder, 60 * arguments.minutes, dry=arguments.dry, prepared=prepared
    )
    print("\nA dry run: its numbers mean nothing." if arguments.dry else "\n" + summary(folder))
    return int(any(row["code"] != 0 for row in results["stages"].values()))


if __name__ == "__main__":
    sys.exit(main())
