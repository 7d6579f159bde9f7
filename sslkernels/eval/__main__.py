"""The command line: ``python -m sslkernels.eval RUN [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..train import Run, load_run
from ..train.failed import failed
from ..train.log import read_metrics
from .evaluate import evaluate
from .pictures import draw
from .table import tables

EVALUATION, RESULTS = "evaluation.json", "results.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 success, 1 failure, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        run = finished_run(arguments.run, arguments.device)
        evaluation = evaluate(run, images=arguments.images, views=arguments.views, log=_log)
        text = json.dumps(evaluation.numbers, indent=2, allow_nan=False)
        (run.folder / EVALUATION).write_text(text + "\n")
        baselines = _baselines(run.folder)
        if arguments.json:
            print(text)
        else:
            print(f"{run.name} on {run.data.name}: {run.folder}/\n")
            print(tables(evaluation.numbers, baselines), flush=True)
        _log("pictures")
        files = [run.folder / EVALUATION, *_draw(run, evaluation, baselines)]
        if not arguments.json:
            print("\n" + "\n".join(map(str, files)))
    except (ValueError, ImportError) as error:
        return failed("sslkernels.eval", arguments, 2, str(error))
    except OSError as error:
        return failed("sslkernels.eval", arguments, 1, f"cannot go on: {error}")
    return 0


def finished_run(folder: str | Path, device: str = "auto") -> Run:
    """Load a run that has been trained to its end.

    Raises:
        ValueError: there is no such run, it is not finished, or as for ``load_run``.
        ImportError: as for ``load_run``.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"there is no run in {folder}: expected a folder that training has made")
    run = load_run(folder, device=device)
    history = read_metrics(run.folder)
    done = int(history[-1]["epoch"]) if history else 0
    if done < run.recipe.epochs:
        raise ValueError(
            f"the run in {folder} is not finished: {done} of {run.recipe.epochs} epochs are done; "
            f"go on with it: python -m sslkernels.train {run.name} --resume {folder}"
        )
    return run


def _baselines(folder: Path) -> dict[str, float]:
    """kNN accuracies of the untrained baselines, saved by training."""
    try:
        found = json.loads((folder / RESULTS).read_text())["knn_accuracy"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: value for name, value in found.items() if name != "trained encoder"}


def _draw(run: Run, evaluation, baselines: dict[str, float]) -> list[Path]:
    try:
        return draw(run, evaluation, baselines)
    except ImportError as error:
        print(f"No pictures: {error}.", file=sys.stderr)
        return []


def _log(line: str) -> None:
    print(f"… {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sslkernels.eval",
        description="Evaluate a run of sslkernels.train at every depth: nearest neighbours, linear "
        "probe, RankMe, alpha-ReQ, LiDAR, alignment, uniformity, and invariance to each single "
        f"augmentation. Writes {EVALUATION} and pictures into the folder of the run.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run, such as runs/NAME")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument(
        "--images", type=int, default=1000, help="test images to augment (default: %(default)s)"
    )
    parser.add_argument(
        "--views", type=int, default=10, help="augmented views of each image (default: %(default)s)"
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
