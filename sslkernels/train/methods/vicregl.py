"""VICRegL (Bardes et al. 2022, arXiv:2210.01571): VICReg of images and of matched cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import VICRegLViews, View, ViewBatch
from ...losses import VICRegLLoss
from ...metrics.encode import evaluation_mode
from ..backbones import check_has_maps, feature_maps, feature_size
from ..recipe import Recipe
from .method import Method
from .perceptron import perceptron

WHOLE_VIEWS = 2


@dataclass(frozen=True, kw_only=True)
class VICRegLRecipe(Recipe):
    """The settings of VICRegL, in addition to those of every method.

    Attributes:
        local_views: small views of a part of each image.
        invariance, variance, covariance: weights, as in VICReg.
        whole: weight of the images' loss; that of the cells of their feature maps is 1 − whole.
        matches, matches_back: numbers of cell pairs, matched by position and by features, from one
            view to the other and back.
        expander_size: width of all three layers of the projector of images.
        cell_size: width of all three layers of the projector of cells.
    """

    local_views: int = 0  # type: ignore[misc]
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 4.0
    whole: float = 0.75
    matches: int = 4
    matches_back: int = 4
    expander_size: int = 512
    cell_size: int = 64

    may_be_zero = (*Recipe.may_be_zero, "local_views", "whole")

    # facebookresearch/VICRegL, README.md and main_vicregl.py: ResNet-50 for 300 epochs. As in the
    # paper, the loss here also selects the best matches by features; the code takes all cells.
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "local_views": 0,
        "epochs": 300,
        "batch_size": 2048,
        "optimizer": "lars",
        "learning_rate": 0.2 * 2048 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 1e-6,
        "covariance": 1.0,
        "whole": 0.75,
        "matches": 20,
        "matches_back": 4,
        "expander_size": 8192,
        "cell_size": 512,
        "precision": "float16",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole > 1:
            raise ValueError(f"whole must be at most 1, got {self.whole}")

    def views(self) -> tuple[View, ...]:
        scale = (0.4, 1.0) if self.local_views else (0.08, 1.0)
        return VICRegLViews(
            global_size=self.image_size,
            local_size=self.local_size,
            local_views=self.local_views,
            global_scale=scale,
        ).views


class VICRegL(Method):
    """Backbone with feature maps, a projector of images, another of cells, and VICRegL's loss."""

    def __init__(self, backbone: nn.Module, recipe: VICRegLRecipe):
        super().__init__()
        check_has_maps(backbone, recipe.backbone)
        size = feature_size(backbone)
        self.backbone = backbone
        self.projector = perceptron([size, *[recipe.expander_size] * 3])
        self.cell_projector = perceptron([size, *[recipe.cell_size] * 3])
        self.criterion = VICRegLLoss(
            recipe.invariance,
            recipe.variance,
            recipe.covariance,
            recipe.whole,
            gather_distributed=True,
            num_matches=(recipe.matches, recipe.matches_back),
        )
        self._cells: dict[int, int] = {}

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        """The views, then the positions of the cells of their maps, (n, cells, cells, 2) each."""
        views = enumerate(batch.views)
        return *batch.views, *(batch.coordinates(i, self.cells(view)) for i, view in views)

    def cells(self, view: Tensor) -> int:
        """The number of cells along a side of the feature map of a view (n, c, h, w)."""
        size = view.shape[-1]
        if size not in self._cells:
            with torch.no_grad(), evaluation_mode(self.backbone):
                self._cells[size] = feature_maps(self.backbone, view[:1]).shape[-1]
        return self._cells[size]

    def forward(self, *views_and_places: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (n, expander_size) of V views, those of their cells (n, cells, cells,
        cell_size), and the positions of the cells."""
        count = len(views_and_places) // 2
        views, places = views_and_places[:count], views_and_places[count:]
        pooled, cells = [], []
        for group in (views[:WHOLE_VIEWS], views[WHOLE_VIEWS:]):
            if group:
                maps = feature_maps(self.backbone, torch.cat(group))
                pooled += self.projector(maps.mean((2, 3))).chunk(len(group))
                rows = maps.movedim(1, -1)
                projected = self.cell_projector(rows.flatten(0, 2)).unflatten(0, rows.shape[:3])
                cells += projected.chunk(len(group))
        return *pooled, *cells, *places

    def loss(self, *embeddings: Tensor) -> Tensor:
        count = len(embeddings) // 3
        pooled, cells, places = (embeddings[i * count : (i + 1) * count] for i in range(3))
        features = list(zip(pooled, cells, strict=True))
        return self.criterion(
            features[:WHOLE_VIEWS], places[:WHOLE_VIEWS],
            features[WHOLE_VIEWS:] or None, places[WHOLE_VIEWS:] or None,
        )  # fmt: skip
