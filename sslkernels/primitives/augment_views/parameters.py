"""The columns of a parameter tensor, and the position of a view in its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._checks import check_flags, check_integers, check_tensors

OPERATIONS = ("brightness", "contrast", "saturation", "hue")


class Parameters(NamedTuple):
    """The columns of a parameter tensor (..., 13) float32, in this order.

    Attributes:
        top, left, height, width: the crop, in whole pixels of the image.
        flip: 1 for a horizontal flip, else 0.
        order: of brightness 0, contrast 1, saturation 2, hue 3; two bits each, lowest bits first.
        brightness, contrast, saturation: factors, 1 for none.
        hue: shift in turns, from −0.5 to 0.5; exactly 0 skips the conversion to HSV.
        grayscale: 0 for none, 1 after the jitter, 2 before it.
        sigma: standard deviation of the blur in pixels, 0 for none.
        solarize: levels (0 … 255) from this threshold on are inverted; 256 for none.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    order: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    sigma: Tensor
    solarize: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Parameters:
        """The columns of (..., 13), as views of its memory."""
        return cls(*parameters.unbind(-1))

    def stack(self) -> Tensor:
        """The parameter tensor (..., 13) float32, from columns of one shape."""
        return torch.stack([x.to(torch.float32) for x in self], -1)

    def operations(self, position: int) -> Tensor:
        """The operation, an index into ``OPERATIONS``, at this position, 0 … 3."""
        return self.order.long() >> 2 * position & 3


MOST_SIDE = 1 << 14  # pixels of a view, counted in 32 bits
COUNT = len(Parameters._fields)
MOST_PIXELS = float(1 << 20)  # of a crop's side: above, sums of Pillow's weights overflow
RANGES = {
    "top": (0.0, float(1 << 30)),
    "left": (0.0, float(1 << 30)),
    "height": (1.0, MOST_PIXELS),
    "width": (1.0, MOST_PIXELS),
    "order": (0.0, 255.0),
    "hue": (-1.0, 1.0),
}


def pack_order(operations: Sequence[int]) -> int:
    """The value of ``Parameters.order`` for these indices into ``OPERATIONS``."""
    return sum(operation << 2 * position for position, operation in enumerate(operations))


def crop_boxes(parameters: Tensor) -> Tensor:
    """(..., 4): top, left, height and width in image pixels of each crop (..., 13)."""
    return parameters[..., :4]


def source_coordinates(parameters: Tensor, grid: int, *, flipped: bool = True) -> Tensor:
    """Image coordinates of the centres of the cells of a view's grid.

    Args:
        parameters: (..., 13), drawn by :func:`sslkernels.data.draw_parameters`.
        grid: cells along each side of the view.
        flipped: mirror the grid of a flipped view, so that a cell of the grid corresponds to the
            same cell of a feature map. (VICRegL's code does not by default.)

    Returns:
        (..., grid, grid, 2), rows and columns in pixels of the image, whose first pixel covers
        0 … 1. Rows of the grid come first, as in a feature map.

    Raises:
        ValueError: ``parameters`` of another shape, or ``grid`` below 1.
    """
    check_tensors(parameters=parameters)
    check_integers(1, MOST_SIDE, grid=grid)
    check_flags(flipped=flipped)
    if parameters.dim() < 1 or parameters.shape[-1] != COUNT:
        raise ValueError(f"parameters must be (..., {COUNT}), got {tuple(parameters.shape)}")
    p = Parameters.of(parameters[..., None, :])
    share = (torch.arange(grid, device=parameters.device) + 0.5) / grid
    across = torch.where((p.flip > 0) & bool(flipped), 1 - share, share)
    rows, columns = p.top + share * p.height, p.left + across * p.width
    shape = (*rows.shape, grid)
    return torch.stack([rows[..., :, None].expand(shape), columns[..., None, :].expand(shape)], -1)
