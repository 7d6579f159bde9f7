"""One small run on the digits, and its measures."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..eval.depth import encode_depths
from ..metrics import knn_accuracy, linear_probe
from ..train import Recipe, train
from ..train.backbones import make_backbone
from ..train.datasets import Data, open_data
from ..train.methods import Method
from ..train.run import find_device

SETTINGS: dict[str, Any] = {
    "reader": "memory",
    "width": 16,
    "warmup_epochs": 1.0,
    "evaluate_every": 10**6,  # trials are evaluated separately, at the end
    "checkpoint_every": 10**6,
}


@dataclass
class Trial:
    """A trained method, with its history by epoch and its data."""

    method: Method
    history: list[dict[str, float]]
    data: Data
    recipe: Recipe

    def encode(self, split: str) -> tuple[dict[str, Tensor], Tensor]:
        """Features by depth, and labels, of a split's images, without augmentation."""
        return self.encode_batches(self.data.evaluation_batches(split))

    def encode_batches(self, batches: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Features by depth, and labels, of any images."""
        device = next(self.method.parameters()).device
        on_device = ((x.to(device), y.to(device)) for x, y in batches)
        return encode_depths(self.method, on_device, self.recipe.precision)

    def accuracies(self) -> dict[str, dict[str, float]]:
        """The accuracies "knn" and "linear" on the test split, by depth."""
        train_features, train_labels = self.encode("train")
        test_features, test_labels = self.encode("test")
        found = {}
        for depth, features in train_features.items():
            splits = features, train_labels, test_features[depth], test_labels
            found[depth] = {"knn": knn_accuracy(*splits), "linear": linear_probe(*splits)}
        return found


def run_trial(
    make: Callable[[nn.Module], Method],
    recipe: Recipe,
    batches: Callable[[Data], Any] = lambda data: data.batches(),
) -> Trial:
    """Train the method that ``make`` builds on a new backbone, like ``python -m sslkernels.train``.

    Prints nothing but a progress bar on a terminal, and leaves no file.

    Args:
        make: from a backbone to a method.
        recipe: the settings.
        batches: from the data to the training batches.
    """
    device = find_device(recipe.device)
    data = open_data(recipe, device)
    torch.manual_seed(recipe.seed)
    method = make(make_backbone(recipe.backbone, data.channels, recipe.width)).to(device)
    torch.manual_seed(recipe.seed)
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        history = train(method, batches(data), recipe, Path(folder))
    return Trial(method.eval(), history, data, recipe)
