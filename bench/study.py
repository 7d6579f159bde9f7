"""A study, and its results beside those of the benchmarks.

    python -m bench.study sigreg

runs ``python -m sslkernels.study NAME``, and writes ``docs/study-<name>.png`` and
``bench/results/<device>/study-<name>.json``, with the machine, every trial, and the mean and
standard deviation of each setting.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sslkernels.study import STUDIES, Row, run_study
from sslkernels.study.__main__ import RUNS
from sslkernels.study.runner import PLOT, TRIALS

from .machine import describe_machine, slug

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = Path(__file__).parent.parent / "docs"


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study, print its table, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of each run (default: the study's)")
    arguments = parser.parse_args(argv)
    name, study = arguments.study, STUDIES[arguments.study]
    machine = describe_machine("cpu")
    folder = RUNS / f"study-{name}"
    rows = run_study(
        study, name, folder, seeds=arguments.seeds,
        epochs=arguments.epochs or study.epochs, log=partial(print, flush=True),
    )  # fmt: skip
    report = json.loads((folder / TRIALS).read_text())
    shutil.copyfile(folder / PLOT, DOCUMENTS / f"study-{name}.png")
    words = ["python", "-m", "bench.study", *(sys.argv[1:] if argv is None else argv)]
    content = {
        "op": "study", **machine, "command": shlex.join(words), **report,
        "rows": list(map(_summary, rows)),
    }  # fmt: skip
    path = RESULTS / slug(str(machine["device"])) / f"study-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
    print(f"wrote {path} and {DOCUMENTS / f'study-{name}.png'}", file=sys.stderr)


def _summary(row: Row) -> dict[str, Any]:
    return {**row.setting, "seeds": row.seeds, "mean": row.mean, "std": row.std}


if __name__ == "__main__":
    main()
