"""Tiny runs on a few digits, for tests of the loop."""

from __future__ import annotations

import torch

from sslkernels.data import DigitSplit, MovedDigitViews, load_digits
from sslkernels.train.backbones import make_backbone
from sslkernels.train.methods import METHODS
from sslkernels.train.recipe import override

SMALL = ("epochs=3", "batch_size=20", "width=8", "precision=float32", "device=cpu", "log_every=2")


def few_digits(every=50):
    split, _ = load_digits()
    return DigitSplit(*(x[::every] for x in split))


def small_recipe(name, *overrides):
    return override(METHODS[name][1], [*SMALL, *overrides])


def small_method(name, recipe, channels=1):
    torch.manual_seed(recipe.seed)
    method = METHODS[name][0](make_backbone(recipe.backbone, channels, recipe.width), recipe)
    torch.manual_seed(recipe.seed)
    return method


def small_batches(recipe, rank=0, world_size=1, every=50):
    """Views of 80 digits: four batches of 20 per epoch."""
    return MovedDigitViews(
        few_digits(every), recipe.batch_size, seed=recipe.seed, whole_views=recipe.global_views,
        local_views=recipe.local_views, rank=rank, world_size=world_size,
    )  # fmt: skip
