"""Jigsaw (Noroozi and Favaro 2016, arXiv:1603.09246): predict the order of nine tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ...data import View, ViewBatch
from ...data.pretext import jigsaw, jigsaw_permutations
from ..backbones import feature_size
from .labels import LabelMethod, PretextRecipe, generator_of, plain_pixels, standardize
from .perceptron import perceptron

TILES = 9


@dataclass(frozen=True, kw_only=True)
class JigsawRecipe(PretextRecipe):
    """The settings of the jigsaw, in addition to those of every method.

    Attributes:
        permutations: number of tile orders to classify. More are harder, also because they are
            closer to each other.
        cell: side in pixels of the cells of a 3 × 3 grid.
        tile: side of the tiles, at a random position in their cell.
        tile_size: width of each tile's features in the classifier.
        hidden_size: width of its hidden layer.
    """

    permutations: int = 24
    cell: int = 10
    tile: int = 8
    tile_size: int = 64
    hidden_size: int = 256

    # facebookresearch/vissl, configs/config/pretrain/jigsaw/jigsaw_8gpu_resnet.yaml (Goyal et al.
    # 2019, arXiv:1905.01235), which divides the learning rate by ten at epochs 30, 60, 90 and 100
    # and has no hidden layer
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 255,
        "epochs": 105,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "warmup_epochs": 5.0,
        "weight_decay": 1e-4,
        "permutations": 2000,
        "cell": 85,
        "tile": 64,
        "tile_size": 1000,
        "hidden_size": 4096,
    }

    def views(self) -> tuple[View, ...]:
        return (plain_pixels(self.image_size, scale=(0.5, 1.0)),)


class Jigsaw(LabelMethod):
    """Backbone, and a classifier of the concatenated features of nine tiles."""

    orders: Tensor

    def __init__(self, backbone: nn.Module, recipe: JigsawRecipe):
        super().__init__()
        self.backbone, self.projector, self.recipe = backbone, nn.Sequential(), recipe
        self.of_tile = perceptron([feature_size(backbone), recipe.tile_size], last_norm=True)
        sizes = [TILES * recipe.tile_size, recipe.hidden_size, recipe.permutations]
        self.classifier = nn.Sequential(nn.ReLU(), *perceptron(sizes))
        self.register_buffer("orders", jigsaw_permutations(recipe.permutations), persistent=False)

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        (images,), sizes = batch.views, {"cell": self.recipe.cell, "tile": self.recipe.tile}
        tiles, labels = jigsaw(images, self.orders, generator_of(images.device), **sizes)
        return standardize(tiles), labels

    def forward(self, tiles: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        features = self.of_tile(self.backbone(tiles.flatten(0, 1)))
        return self.classifier(features.unflatten(0, (-1, TILES)).flatten(1)), labels
