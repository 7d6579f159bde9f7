"""An indicator of collapsed embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._operator import accumulation_dtype
from ._checks import check_features


@torch.no_grad()
def embedding_spread(embeddings: Tensor) -> Tensor:
    """Collapse indicator of SimSiam (Chen and He 2020, arXiv:2011.10566, section 4.1).

    The standard deviation over the batch of each coordinate of the L2-normalised embeddings,
    averaged over coordinates, times √d: about 1 if embeddings spread evenly over the sphere, 0 if
    they all coincide.

    Args:
        embeddings: (n, d) floating point, n ≥ 1.

    Returns:
        A scalar tensor on the device of ``embeddings``.

    Raises:
        TypeError, ValueError: ``embeddings`` are not (n, d) floating point with n ≥ 1.
    """
    check_features("embeddings", embeddings)
    spread = unit_rows(embeddings).std(0, correction=0).mean()
    return spread * embeddings.shape[1] ** 0.5


def unit_rows(features: Tensor) -> Tensor:
    """Rows (n, d) normalised to unit length, in float32 or wider."""
    return F.normalize(features.to(accumulation_dtype(features)), dim=1)
