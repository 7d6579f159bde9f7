"""Context prediction (Doersch et al. 2015, arXiv:1505.05192): the relative position of patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import ViewBatch
from ...data.pretext import drop_colors, relative_patches
from ..backbones import feature_size
from .labels import LabelMethod, PretextRecipe, generator_of, standardize
from .perceptron import perceptron

DIRECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class RelativePatchRecipe(PretextRecipe):
    """The settings of context prediction, in addition to those of every method.

    Attributes:
        patch: side of a patch in pixels.
        gap: between neighbouring patches, so that edges do not give away their position.
        jitter: maximum shift of each patch along both axes, at most half the gap.
        drop_colors: keep one channel of a colour image, against chromatic aberration as a cue.
        hidden_size: width of the hidden layer of the classifier of both patches.
    """

    patch: int = 12
    gap: int = 4
    jitter: int = 2
    drop_colors: bool = True
    hidden_size: int = 256

    may_be_zero = (*PretextRecipe.may_be_zero, "gap", "jitter")

    # section 3 of the paper: sizes and classifier; its network and optimiser are specific to Caffe
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:alexnet",
        "image_size": 256,
        "patch": 96,
        "gap": 48,
        "jitter": 7,
        "drop_colors": True,
        "hidden_size": 4096,
    }


class RelativePatch(LabelMethod):
    """Backbone, and a classifier of the concatenated features of two patches."""

    def __init__(self, backbone: nn.Module, recipe: RelativePatchRecipe):
        super().__init__()
        self.backbone, self.projector, self.recipe = backbone, nn.Sequential(), recipe
        self.classifier = perceptron([2 * feature_size(backbone), recipe.hidden_size, DIRECTIONS])

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        (images,), recipe = batch.views, self.recipe
        generator = generator_of(images.device)
        sizes = {"patch": recipe.patch, "gap": recipe.gap, "jitter": recipe.jitter}
        *pair, labels = relative_patches(images, generator, **sizes)
        if recipe.drop_colors and images.shape[1] == 3:
            return *(drop_colors(patches, generator) for patches in pair), labels
        return *map(standardize, pair), labels

    def forward(self, centers: Tensor, neighbors: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        pair = self.backbone(torch.cat([centers, neighbors])).chunk(2)
        return self.classifier(torch.cat(pair, 1)), labels
