"""A run: a method, its recipe, its data, and the folder of its results."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import check_paths, shown
from ..metrics import encode, knn_accuracy, rankme
from . import checkpoint
from .backbones import make_backbone
from .checkpoint import CHECKPOINT
from .datasets import Data, open_data
from .methods import METHODS, Method
from .recipe import Recipe

RECIPE = "recipe.json"
NEIGHBORS = 20
WIDEST = 4096  # most features for RankMe, whose cost is cubic


@dataclass
class Run:
    """A trained run, as :func:`sslkernels.train.load_run` returns it.

    Attributes:
        name: name of the method.
        recipe: its settings.
        method: the trained method, on the run's device, in evaluation mode.
        data: the data it was trained on.
        folder: the folder of the run.
    """

    name: str
    recipe: Recipe
    method: Method
    data: Data
    folder: Path


def load_run(folder: str | Path, *, device: str = "auto") -> Run:
    """Load a run of ``python -m sslkernels.train`` from its folder.

    Args:
        folder: of the run.
        device: as in a recipe.

    Raises:
        TypeError: ``folder`` is not a path, or ``device`` not a string.
        ValueError: ``folder`` contains no run, or no checkpoint yet, or one that does not fit its
            recipe; there is no such device; or the data are missing.
        ImportError: a package for its backbone or its data is not installed.
    """
    check_paths(folder=folder)
    folder = Path(folder)
    on = find_device(device)
    name, recipe = read_recipe(folder)
    saved = checkpoint.load(folder / CHECKPOINT)
    data = open_data(recipe, on)
    method = make_method(name, recipe, data).to(on)
    checkpoint.load_into(method, saved, f"{folder / CHECKPOINT} does not fit its {RECIPE}")
    return Run(name, recipe, method.eval(), data, folder)


def make_method(name: str, recipe: Recipe, data: Data) -> Method:
    """The method, initialised with the recipe's seed, on the CPU."""
    torch.manual_seed(recipe.seed)
    backbone = make_backbone(recipe.backbone, data.channels, recipe.width)
    return METHODS[name][0](backbone, recipe)


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def online_evaluation(
    data: Data, precision: str, device: torch.device
) -> Callable[[nn.Module], dict[str, float]]:
    """The evaluation that is cheap enough during training.

    Returns:
        A function from an encoder to ``knn_accuracy``, if the data have classes, and ``rankme`` of
        its features of the training images, if there are at most 4,096 features. NaN if features
        are not finite, which does not stop the training.
    """

    def evaluate(encoder: nn.Module) -> dict[str, float]:
        found: list[Tensor] = []
        for split in ("train", "test") if data.classes else ("train",):
            batches = ((x.to(device), y.to(device)) for x, y in data.evaluation_batches(split))
            found += encode(encoder, batches, precision)
        numbers = {}
        if found[0].shape[1] <= WIDEST:
            numbers["rankme"] = rankme(found[0])
        if data.classes:
            numbers["knn_accuracy"] = math.nan  # features are not finite
            features, labels, test_features, test_labels = found
            if features.isfinite().all() and test_features.isfinite().all():
                numbers["knn_accuracy"] = knn_accuracy(
                    features, labels, test_features, test_labels, k=min(NEIGHBORS, len(features))
                )
        return numbers

    return evaluate


def write_recipe(folder: Path, name: str, recipe: Recipe) -> None:
    """Write the method's name and settings."""
    (folder / RECIPE).write_text(json.dumps({"method": name, **asdict(recipe)}, indent=2) + "\n")


def read_recipe(folder: Path) -> tuple[str, Recipe]:
    """The method's name and settings; raises ValueError if there are none."""
    try:
        settings = json.loads((folder / RECIPE).read_text())
        name = settings.pop("method")
        return name, METHODS[name][1](**settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/ holds no run: {RECIPE}: {error}") from None


def find_device(name: str) -> torch.device:
    """The device that a recipe names; raises ValueError if there is none."""
    if not isinstance(name, str):
        raise TypeError(f"device must be a string, got {shown(name)}")
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
