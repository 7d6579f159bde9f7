"""The command line: ``python -m sslkernels.study NAME [--seeds N] [--epochs N] [--quick]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..train import Stopped
from ..train.failed import failed
from . import STUDIES, run_study

RUNS = Path("runs")
SEEDS = 3
QUICK_EPOCHS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 success, 1 failure, 2 wrong usage,
    128 + N stopped by signal N.
    """
    arguments = _parser().parse_args(argv)
    name = arguments.study
    try:
        if name not in STUDIES:
            raise ValueError(f"unknown study {name!r}; the studies are {', '.join(STUDIES)}")
        study = STUDIES[name]
        seeds = arguments.seeds or (1 if arguments.quick else SEEDS)
        epochs = arguments.epochs or (QUICK_EPOCHS if arguments.quick else study.epochs)
        folder = RUNS / f"study-{name}"
        count = len(study.settings) * seeds
        print(f"{study.question} {count} runs of {epochs} epochs.", flush=True)
        run_study(study, name, folder, seeds=seeds, epochs=epochs, log=partial(print, flush=True))
    except Stopped as stop:
        print(f"Stopped; the settings that are done are in {folder}/", file=sys.stderr)
        return 128 + stop.signal
    except (ValueError, ImportError) as error:
        return failed("sslkernels.study", arguments, 2, str(error))
    except FloatingPointError as error:
        return failed("sslkernels.study", arguments, 1, str(error))
    except OSError as error:
        return failed("sslkernels.study", arguments, 1, f"cannot go on: {error}")
    return 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<14}{study.question}" for name, study in STUDIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m sslkernels.study",
        description="Answer a question by small runs on the digits that ship with the package. "
        "Prints a table, and writes it and a picture into runs/study-NAME/.",
        epilog=f"studies:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="NAME", help="name of the study; see below")
    parser.add_argument(
        "--seeds", type=_above_zero, help=f"runs of each setting (default: {SEEDS})"
    )
    parser.add_argument("--epochs", type=_above_zero, help="epochs per run (default: the study's)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a quick trial: one seed and {QUICK_EPOCHS} epochs, unless given",
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _above_zero(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
