"""The command line: ``python -m sslkernels.train METHOD [data=DIR] [key=value …]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ..distributed import all_ranks
from ..metrics.encode import settle_precision
from ..plots import plot_training
from .checkpoint import CHECKPOINT
from .datasets import Data, open_data
from .failed import failed
from .log import METRICS, read_metrics
from .loop import Stopped, train
from .methods import METHODS
from .recipe import Recipe, override
from .run import (
    find_device,
    make_method,
    online_evaluation,
    read_recipe,
    seed_everything,
    write_recipe,
)

RUNS = Path("runs")
RESULTS, PLOT = "results.json", "training.png"
AGAIN = "Go on with it: --resume {}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 success, 1 failure, 2 wrong usage,
    128 + N stopped by signal N, with a checkpoint.
    """
    arguments = _parser().parse_intermixed_args(argv)
    folder = None
    try:
        name, recipe, folder, resume = _what_to_do(arguments)
        if arguments.print_config:
            print("\n".join(f"{key}={value}" for key, value in asdict(recipe).items()))
            return 0
        with ranks():
            run(name, recipe, folder, resume=resume)
    except Stopped as stop:
        print(f"{str(stop).capitalize()}. {AGAIN.format(folder)}", file=sys.stderr)
        return 128 + stop.signal
    except FloatingPointError as error:
        return failed(
            "sslkernels.train", arguments, 1, f"Stopped: {error}. The run is in {folder}/"
        )
    except (ValueError, ImportError) as error:
        return failed("sslkernels.train", arguments, 2, str(error))
    except OSError as error:
        return failed("sslkernels.train", arguments, 1, f"cannot go on: {error}")
    return 0


def run(name: str, recipe: Recipe, folder: Path, *, resume: bool = False) -> None:
    """Train and evaluate one recipe; print the accuracies, write everything to ``folder``."""
    start = time.perf_counter()
    rank, count = all_ranks()
    device = find_device(recipe.device)
    if count > 1 and device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    recipe = replace(recipe, precision=settle_precision(recipe.precision, device))
    data = open_data(recipe, device)
    batches = data.batches(rank, count)
    method = make_method(name, recipe, data).to(device)
    evaluate = online_evaluation(data, recipe.precision, device)
    baselines = {}
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)  # auto: killed before any checkpoint
        for label, encoder in (("raw pixels", nn.Flatten()), ("random encoder", method.backbone)):
            if data.classes:
                baselines[label] = evaluate(encoder)["knn_accuracy"]
        print(_opening(name, data, batches, recipe, device, count, baselines), flush=True)
    seed_everything(recipe.seed + rank)  # so that masks etc. differ between ranks
    has_begun = False

    def started() -> None:
        nonlocal has_begun
        has_begun = True
        if rank == 0:
            write_recipe(folder, name, recipe)

    try:
        history = train(method, batches, recipe, folder, evaluate, resume=resume, started=started)
    finally:
        has_plot = has_begun and rank == 0 and _plot(folder, baselines, f"{name} on {data.name}")
    if rank == 0:
        _finish(folder, history[-1], baselines, time.perf_counter() - start, has_plot)


def _finish(
    folder: Path, last: dict[str, float], baselines: dict[str, float], total: float, has_plot: bool
) -> None:
    results: dict[str, float | dict[str, float]] = {
        "training_seconds": last["seconds"],
        "loss": last["loss"],
    }
    if "label_accuracy" in last:
        results["label_accuracy"] = last["label_accuracy"]
        print(f"\naccuracy of labels in the last batch: {last['label_accuracy']:.1%}")
    if "knn_accuracy" in last:
        accuracies = {**baselines, "trained encoder": last["knn_accuracy"]}
        results["knn_accuracy"] = accuracies
        print(f"\n{'features':<16} kNN accuracy")
        for label, accuracy in accuracies.items():
            print(f"{label:<16} {accuracy:12.1%}")
    (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
    print(f"\ntrained in {last['seconds']:.0f} s, {total:.0f} s in all")
    files = {"plot": PLOT, "metrics": METRICS, "checkpoint": CHECKPOINT}
    for label, file in files.items():
        if file != PLOT or has_plot:
            print(f"{label:<11} {folder / file}")


def _what_to_do(arguments: argparse.Namespace) -> tuple[str, Recipe, Path, bool]:
    """The method, its recipe, the folder of the run, and whether to resume it."""
    name, resume = arguments.method, arguments.resume
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; the methods are {', '.join(METHODS)}")
    recipe = override(METHODS[name][1], arguments.overrides, published=arguments.published)
    if arguments.print_config:
        return name, recipe, RUNS, False
    if resume not in (None, "auto"):
        folder = Path(resume)
        given = {text.partition("=")[0] for text in arguments.overrides}
        return name, _as_it_began(folder, name, recipe, given), folder, True
    label = Path(recipe.data).resolve().name
    folder = RUNS / (arguments.name or f"{name}-{label}-{time.strftime('%Y%m%d-%H%M%S')}")
    if resume == "auto":
        if not arguments.name:
            raise ValueError("--resume auto needs the --name of the run that may be there already")
        begun = (folder / CHECKPOINT).exists()
        if begun:
            recipe = _as_it_began(folder, name, recipe, asdict(recipe))
        return name, recipe, folder, begun
    if folder.exists() and os.environ.get("RANK", "0") == "0":
        raise ValueError(
            f"{folder} exists already; choose another --name, or {AGAIN.format(folder)}"
        )
    return name, recipe, folder, False


def _as_it_began(folder: Path, name: str, recipe: Recipe, given: Iterable[str]) -> Recipe:
    """The recipe of the run in ``folder``, with possibly more epochs; otherwise it must agree."""
    found, saved = read_recipe(folder)
    if found != name:
        raise ValueError(f"the run in {folder}/ has method {found}; it goes on as it began")
    if recipe.precision == "auto":
        recipe = replace(recipe, precision=saved.precision)
    if "epochs" in given and recipe.epochs > saved.epochs:
        saved = replace(saved, epochs=recipe.epochs)
    for key in given:
        if getattr(saved, key) != getattr(recipe, key):
            raise ValueError(
                f"the run in {folder}/ has {key}={getattr(saved, key)}; it goes on as it began"
            )
    return saved


@contextmanager
def ranks() -> Iterator[None]:
    """Join the other ranks if torchrun started this process."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sslkernels.train",
        description="Train a self-supervised method, and evaluate it: on handwritten digits that "
        "ship with the package unless data=DIR names a folder of images. Under torchrun it trains "
        "on all ranks.",
    )
    parser.add_argument("method", metavar="METHOD", help=f"one of: {', '.join(METHODS)}")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="settings; --print-config lists them"
    )
    parser.add_argument("--name", help="folder under runs/ (default: method, data and time)")
    parser.add_argument(
        "--published", action="store_true", help="the paper's settings instead of the demo's"
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="resume the run in this folder; auto: the run of --name, if it exists",
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _opening(
    name, data: Data, batches, recipe: Recipe, device, ranks: int, baselines: dict[str, float]
) -> str:
    on = f"{device}" + (f", {ranks} ranks" if ranks > 1 else "")
    steps = f"{len(batches)} step{'s' * (len(batches) > 1)} an epoch"
    text = f"{name} on {data.name} (read by {data.reader}), {data.count('train'):,} training and "
    text += f"{data.count('test'):,} test images, {steps}, in {recipe.precision} on {on}"
    if baselines:
        found = ", ".join(f"{label} {accuracy:.1%}" for label, accuracy in baselines.items())
        text += f"; kNN accuracy before training: {found}"
    return text


def _plot(folder: Path, baselines: dict[str, float], title: str) -> bool:
    try:
        plot_training(read_metrics(folder), baselines, title, folder / PLOT)
    except ImportError as error:
        print(f"No plot: {error}.")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
