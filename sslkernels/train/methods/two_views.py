"""What methods have in common whose loss compares the projections of two views."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .method import Method


class TwoViews(Method):
    """Backbone, projector and loss.

    Args:
        backbone: maps images to (n, ``backbone.feature_size``) features.
        sizes: widths of the projector's layers; all but the last are followed by batch
            normalisation and ReLU.
        loss: of two views' embeddings, each (n, sizes[-1]).
    """

    def __init__(self, backbone: nn.Module, sizes: list[int], loss: nn.Module):
        super().__init__()
        self.backbone = backbone
        *hidden, last = sizes
        layers: list[nn.Module] = []
        width = backbone.feature_size
        for size in hidden:
            layers += [nn.Linear(width, size, bias=False), nn.BatchNorm1d(size), nn.ReLU()]
            width = size
        self.projector = nn.Sequential(*layers, nn.Linear(width, last))
        self.loss = loss

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (n, sizes[-1]) of each of two views (n, c, h, w)."""
        return self.projector(self.backbone(torch.cat([view0, view1]))).chunk(2)
