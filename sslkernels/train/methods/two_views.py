"""Base of methods whose loss compares two views of one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from ..backbones import feature_size
from .method import Method
from .perceptron import perceptron


class Layers(TypedDict, total=False):
    """Options of :func:`perceptron`."""

    norm: bool
    last_norm: bool
    activation: type[nn.Module]


class TwoViews(Method):
    """Backbone, projector and loss.

    Args:
        backbone: maps images to (n, ``backbone.feature_size``) features.
        sizes: widths of the projector's layers; none: the loss takes the features themselves.
        loss: of two views' embeddings, each (n, sizes[-1]).
        layers: options of :func:`perceptron`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        sizes: Sequence[int],
        loss: nn.Module,
        **layers: Unpack[Layers],
    ):
        super().__init__()
        self.backbone = backbone
        self.projector = perceptron([feature_size(backbone), *sizes], **layers)
        self.loss = loss

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (n, sizes[-1]) of each of two views (n, c, h, w)."""
        return self.projector(self.backbone(torch.cat([view0, view1]))).chunk(2)


class PredictedViews(TwoViews):
    """As :class:`TwoViews`, with a predictor of the other view's embedding.

    Args:
        backbone, sizes, loss, layers: see :class:`TwoViews`.
        hidden_size: width of the predictor's hidden layer.
    """

    def __init__(
        self,
        backbone: nn.Module,
        sizes: Sequence[int],
        loss: nn.Module,
        hidden_size: int,
        **layers: Unpack[Layers],
    ):
        super().__init__(backbone, sizes, loss, **layers)
        self.predictor: nn.Module = perceptron([sizes[-1], hidden_size, sizes[-1]])

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, ...]:
        """Embeddings z of the two views, then the predictions p from them."""
        z = self.projector(self.backbone(torch.cat([view0, view1])))
        return *z.chunk(2), *self.predictor(z).chunk(2)
