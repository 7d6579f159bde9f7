"""Every method, small enough for fast tests."""

from __future__ import annotations

from dataclasses import fields

import torch

from sslkernels.data import ViewBatch
from sslkernels.train.backbones import make_backbone
from sslkernels.train.methods import METHODS, Method
from sslkernels.train.recipe import Recipe

TINY = {
    "batch_size": 8, "hidden_size": 16, "embedding_size": 4, "projector_size": 16,
    "expander_size": 16, "cell_size": 8, "predictor_size": 8, "prototypes": 12, "queue_size": 20,
    "whitened_size": 8, "loss_size": 8, "tile_size": 8, "permutations": 6, "width": 4,
    "warmup_epochs": 0.0,
}  # fmt: skip


def tiny_recipe(name: str, **options) -> Recipe:
    recipe = METHODS[name][1]
    settings = {k: v for k, v in TINY.items() if k in {f.name for f in fields(recipe)}}
    if name == "ibot":
        settings |= {"width": 8, "local_views": 2}  # for its heads; as DINO has
    return recipe(**settings | options)


def tiny_method(name: str, *, seed: int = 0, **options) -> Method:
    torch.manual_seed(seed)
    recipe = tiny_recipe(name, **options)
    backbone = make_backbone(recipe.backbone, 3 if recipe.data == "photos" else 1, recipe.width)
    return METHODS[name][0](backbone, recipe)


def tiny_batch(name: str, n: int = 8, seed: int = 1, **options) -> ViewBatch:
    """Random views of all kinds that the method takes, as for moved digits."""
    recipe = tiny_recipe(name, **options)
    generator = torch.Generator().manual_seed(seed)
    channels = 3 if recipe.data == "photos" else 1
    sizes = [32] * recipe.global_views + [16] * recipe.local_views
    views = [torch.rand(n, channels, size, size, generator=generator) for size in sizes]
    places = torch.rand(len(views), n, 2, 3, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    return ViewBatch(views, places, labels, torch.arange(n))


def step(method: Method, optimizer: torch.optim.Optimizer, batch: ViewBatch) -> torch.Tensor:
    """One step as in the loop; returns the loss."""
    optimizer.zero_grad()
    loss = method.loss(*method(*method.inputs(batch)))
    loss.backward()
    method.before_step()
    optimizer.step()
    method.progress = min(1.0, method.progress + 0.2)
    method.after_step()
    return loss.detach()


def sgd(method: Method) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.05)
