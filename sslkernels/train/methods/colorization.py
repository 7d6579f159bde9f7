"""Colorization (Zhang et al. 2016, arXiv:1603.08511): predict the colours of a grey image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.pretext import color_bins, rebalancing_weights, rgb_to_lab, soft_encode
from ...distributed import Gather, sum_over_ranks
from ..backbones import check_has_maps, feature_maps, feature_size
from .labels import PretextRecipe
from .method import Method

FREQUENCY_MOMENTUM = 0.99


@dataclass(frozen=True, kw_only=True)
class ColorizationRecipe(PretextRecipe):
    """The settings of colorization, in addition to those of every method. Needs colour images.

    Attributes:
        uniform: share of the uniform distribution in the mixture with the running frequencies of
            colours, whose inverse weights the pixels. 1: all pixels have the same weight; less:
            rare colours have more.
    """

    data: str = "photos"
    image_size: int = 32
    uniform: float = 1.0

    # section 2 of the paper, and its Adam, for a network whose output has a fourth of the image's
    # size; the frequencies there are those of ImageNet
    published: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:resnet50",
        "image_size": 224,
        "batch_size": 40,
        "learning_rate": 3e-5,
        "weight_decay": 1e-3,
        "uniform": 0.5,
    }


class Colorization(Method):
    """Backbone on lightness, and a classifier of the colour of each cell of its feature map."""

    backbone: Gray
    bins: Tensor
    frequencies: Tensor

    def __init__(self, backbone: nn.Module, recipe: ColorizationRecipe):
        super().__init__()
        check_has_maps(backbone, recipe.backbone)
        self.backbone, self.projector, self.recipe = Gray(backbone), nn.Sequential(), recipe
        bins = color_bins()
        self.classifier = nn.Conv2d(feature_size(backbone), len(bins), 1)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("frequencies", torch.full((len(bins),), 1 / len(bins)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Scores (n, bins, rows, columns) of images (n, 3, h, w) in [0, 1], and the mean colours
        (n, 2, rows, columns) of the cells, a and b of L*a*b*."""
        scores = self.classifier(self.backbone.maps(images))
        return scores, F.adaptive_avg_pool2d(lab(images)[:, 1:], scores.shape[2:])

    def loss(self, scores: Tensor, colors: Tensor) -> Tensor:
        indices, weights = soft_encode(colors, self.bins)
        nearest = indices[:, 0]
        if self.training:
            self._follow(nearest.flatten())
        if self.recipe.uniform < 1:
            balance = rebalancing_weights(self.frequencies, self.recipe.uniform)
            weights = weights * balance[nearest][:, None]
        log_probabilities = F.log_softmax(scores.float(), 1).gather(1, indices)
        return -(weights * log_probabilities).sum(1).mean()

    @torch.no_grad()
    def _follow(self, nearest: Tensor) -> None:
        """Update the running frequencies with the bins of a batch, over all ranks."""
        counts = torch.zeros_like(self.frequencies)
        counts.scatter_add_(0, nearest, torch.ones_like(nearest, dtype=counts.dtype))
        counts = sum_over_ranks(counts, Gather())
        self.frequencies.lerp_(counts / counts.sum(), 1 - FREQUENCY_MOMENTUM)

    def labels(self, scores: Tensor, colors: Tensor) -> Tensor:
        """The true labels: the bin (n, rows, columns) nearest to each cell's colour."""
        return soft_encode(colors, self.bins)[0][:, 0]

    def monitor(  # type: ignore[override]
        self, scores: Tensor, colors: Tensor
    ) -> dict[str, Tensor]:
        labels = self.labels(scores, colors)
        return {"label_accuracy": (scores.argmax(1) == labels).float().mean()}


class Gray(nn.Module):
    """A backbone whose input is the lightness of colour images, repeated in each channel."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.feature_size = network, feature_size(network)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(lightness(images))

    def maps(self, images: Tensor) -> Tensor:
        return feature_maps(self.network, lightness(images))


def lab(images: Tensor) -> Tensor:
    """L*a*b* of images (n, 3, h, w) in [0, 1], in float32 regardless of autocast."""
    if images.shape[1] != 3:
        raise ValueError(
            f"colourisation needs images of three colours, these have {images.shape[1]} channel"
        )
    with torch.autocast(images.device.type, enabled=False):
        return rgb_to_lab(images.float().clamp(0, 1))


def lightness(images: Tensor) -> Tensor:
    """L scaled to −1 … 1, repeated in three channels."""
    return (lab(images)[:, :1] / 50 - 1).expand_as(images)
