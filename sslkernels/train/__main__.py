"""The command line: ``python -m sslkernels.train simclr [key=value …]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ..data import (
    HAS_DALI,
    DigitSplit,
    MovedDigitViews,
    load_digits,
    move_digits,
    read_digits,
    write_digits,
)
from .backbones import BACKBONES
from .evaluate import encode, knn_accuracy
from .loop import train
from .methods import (
    DINO,
    IBOT,
    BarlowTwins,
    BarlowTwinsRecipe,
    DINORecipe,
    IBOTRecipe,
    SimCLR,
    SimCLRRecipe,
    SimDINO,
    SimDINORecipe,
    VICReg,
    VICRegRecipe,
)
from .plot import plot_training
from .recipe import Recipe, override

METHODS = {
    "simclr": (SimCLR, SimCLRRecipe),
    "barlow_twins": (BarlowTwins, BarlowTwinsRecipe),
    "dino": (DINO, DINORecipe),
    "ibot": (IBOT, IBOTRecipe),
    "simdino": (SimDINO, SimDINORecipe),
    "vicreg": (VICReg, VICRegRecipe),
}
EVALUATION_SEED = 0
DIGITS_FOLDER = Path("runs") / ".digits"  # beside the results: that has to be writable anyway
FILES = {"plot": "training.png", "metrics": "metrics.csv", "checkpoint": "checkpoint.pt"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m sslkernels.train",
        description="Train a self-supervised method on handwritten digits that ship with the "
        "package, and evaluate it. Needs no download and no further arguments.",
    )
    parser.add_argument("method", metavar="METHOD", help=f"one of: {', '.join(METHODS)}")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="settings; --print-config lists them"
    )
    parser.add_argument("--name", help="folder under runs/ (default: method, data and time)")
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    arguments = parser.parse_intermixed_args(argv)

    if arguments.method not in METHODS:
        parser.error(f"unknown method {arguments.method!r}; the methods are {', '.join(METHODS)}")
    try:
        recipe = override(METHODS[arguments.method][1], arguments.overrides)
        if arguments.print_config:
            print("\n".join(f"{key}={value}" for key, value in asdict(recipe).items()))
            return 0
        train_split, test_split = load_splits(recipe.reader, _device(recipe.device))
        views = MovedDigitViews(
            train_split.images,
            recipe.batch_size,
            _generator(train_split.images.device, recipe.seed),
            local_views=recipe.local_views,
        )
        run_dir = _make_run_dir(arguments.method, arguments.name)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    try:
        run(arguments.method, recipe, train_split, test_split, views, run_dir)
    except FloatingPointError as error:
        print(f"Stopped: {error}. Metrics so far: {run_dir}/metrics.csv", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nInterrupted; what there is so far is in {run_dir}/", file=sys.stderr)
        return 130
    return 0


def load_splits(reader: str, device: torch.device) -> tuple[DigitSplit, DigitSplit]:
    """The digits, read from files that are written first, or from the package ("memory")."""
    if reader == "auto":
        has_pil = find_spec("PIL") is not None  # writes the files
        reader = ("dali" if HAS_DALI else "pil") if has_pil else "memory"
    print(f"digits read by: {reader}", flush=True)
    if reader == "memory":
        return load_digits(device)
    return read_digits(write_digits(DIGITS_FOLDER), by=reader, device=device)


def run(
    method_name: str,
    recipe: Recipe,
    train_split: DigitSplit,
    test_split: DigitSplit,
    views: MovedDigitViews,
    run_dir: Path,
) -> None:
    """Train and evaluate one recipe; print the accuracies, write everything to ``run_dir``."""
    start = time.perf_counter()
    (run_dir / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    device = views.images.device
    generator = _generator(device, EVALUATION_SEED)
    bank, queries = (
        move_digits(train_split.images, generator),
        move_digits(test_split.images, generator),
    )

    def evaluate(encoder: nn.Module) -> float:
        return knn_accuracy(
            encode(encoder, bank, bfloat16=recipe.bfloat16),
            train_split.labels,
            encode(encoder, queries, bfloat16=recipe.bfloat16),
            test_split.labels,
        )

    torch.manual_seed(recipe.seed)
    method_class, _ = METHODS[method_name]
    method = method_class(BACKBONES[recipe.backbone](width=recipe.width), recipe).to(device)
    baselines = {"raw pixels": evaluate(nn.Flatten()), "random encoder": evaluate(method.backbone)}
    print(
        f"{method_name} on {len(bank)} digits, tested on {len(queries)}, on {device}; "
        f"kNN accuracy before training: {_percentages(baselines)}",
        flush=True,
    )
    try:
        history = train(method, views, recipe, run_dir, evaluate)
    finally:
        has_plot = _plot(run_dir, baselines, f"{method_name} on moved digits")

    last = history[-1]
    results = {**baselines, "trained encoder": last["knn_accuracy"]}
    (run_dir / "results.json").write_text(
        json.dumps({"knn_accuracy": results, "training_seconds": last["seconds"]}, indent=2) + "\n"
    )
    print(f"\n{'features':<16} kNN accuracy")
    for name, accuracy in results.items():
        print(f"{name:<16} {accuracy:12.1%}")
    total = time.perf_counter() - start
    print(f"\ntrained in {last['seconds']:.0f} s, {total:.0f} s in all")
    for label, file in FILES.items():
        if file != "training.png" or has_plot:
            print(f"{label:<11} {run_dir / file}")


def _percentages(accuracies: dict[str, float]) -> str:
    return ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in accuracies.items())


def _plot(run_dir: Path, baselines: dict[str, float], title: str) -> bool:
    try:
        plot_training(run_dir / "metrics.csv", baselines, title, run_dir / "training.png")
    except ImportError as error:
        print(f"No plot: {error}.")
        return False
    return True


def _generator(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} was asked for, and PyTorch sees no such GPU")
    return device


def _make_run_dir(method_name: str, name: str | None) -> Path:
    name = name or f"{method_name}-digits-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = Path("runs") / name
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(f"{run_dir} exists already; choose another --name") from None
    return run_dir


if __name__ == "__main__":
    sys.exit(main())
