"""The C++ kernel: one thread makes a view, which stays in its cache throughout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import DTYPES, address, extension
from .images import RaggedImages


def augment_views(
    images: RaggedImages,
    parameters: Tensor,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    out: Tensor,
) -> None:
    """Write the views of parameters (V, N, 13) to out (V, N, C, size, size)."""
    size = out.shape[-1]
    affine = torch.tensor(
        [[1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]]
    )
    extension().augment_views(
        tuple(map(address, images[:3])),
        address(parameters),
        (*parameters.shape[:2], images.channels, size),
        interpolation == "bicubic",
        (address(affine), address(affine[1])),
        (address(out), DTYPES[out.dtype], out.stride(-1) != 1 or images.channels == 1),
        torch.get_num_threads(),
    )
