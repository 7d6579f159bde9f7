"""The head of DINO (Caron et al. 2021, arXiv:2104.14294, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Three layers, with batch normalisation and GELU between them, onto the unit sphere.

    Args:
        in_size: features of the backbone.
        hidden_size: width of the two hidden layers.
        out_size: features of the result, the bottleneck.

    Maps (n, in_size) to unit vectors (n, out_size) in float32.
    """

    def __init__(self, in_size: int, hidden_size: int, out_size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_size, hidden_size, bias=False),
            nn.BatchNorm1d(hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size, bias=False),
            nn.BatchNorm1d(hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, out_size),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features).float(), dim=1)
