"""Batches of views, from any source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from .._checks import check_choice, check_integers, shown
from .._copy import to_device
from ..primitives.augment_views import source_coordinates
from ..primitives.augment_views.api import IMPLEMENTATIONS
from ._checks import as_device
from .make_views import make_views
from .readers import Reader
from .readers.epoch_order import seeded_generator
from .recipes import View, Views, views_of


class ViewBatch(NamedTuple):
    """V views of each of N images.

    Attributes:
        views: V tensors (N, C, size, size), normalised.
        parameters: of the views: (V, N, 13) float32 from ``draw_parameters``; for moved digits
            (V, N, 2, 3), the maps from canvas coordinates to pixels.
        labels: (N,) int64.
        indices: (N,) int64, indices of the images in the reader.
        quarter_turns: (V, N) int64 in 0..3, counter-clockwise, after the flip; None: not rotated.
    """

    views: list[Tensor]
    parameters: Tensor
    labels: Tensor
    indices: Tensor
    quarter_turns: Tensor | None = None

    def coordinates(self, view: int, cells: int) -> Tensor:
        """Image coordinates of the centres of the cells of a view's grid.

        Args:
            view: index of the view.
            cells: cells along each side of the view.

        Returns:
            (N, cells, cells, 2), rows and columns in pixels of the image, flipped like the view.
        """
        check_integers(0, len(self.parameters) - 1, view=view)
        check_integers(1, cells=cells)
        parameters = self.parameters[view]
        if parameters.shape[-1] != 3:
            return source_coordinates(parameters, cells)
        place = (torch.arange(cells, device=parameters.device) + 0.5) * 2 / cells - 1
        row, column = torch.meshgrid(place, place, indexing="ij")
        places = torch.stack([column, row, torch.ones_like(row)], -1)  # (cells, cells, 3)
        return torch.einsum("nij,rcj->nrci", parameters, places).flip(-1)


class FusedViewReader(IterableDataset):
    """Batches of views that :func:`sslkernels.augment_views` makes of a reader's images.

    Epochs, sharding, workers, skipped images and resuming are those of the reader. Random numbers
    follow from its seed, its rank and the step: on the CPU they are those of ``DALIViewReader``.

    Args:
        reader: of images with 3 channels, or 1.
        recipe: such as ``SimCLRViews``, or any sequence of views.
        device: the device on which views are made; None: that of the reader's images.
        dtype, impl: see :func:`sslkernels.augment_views`.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or is none of the above.
    """

    def __init__(
        self,
        reader: Reader,
        recipe: Views | Sequence[View],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        impl: str = "auto",
    ):
        if not isinstance(reader, Reader):
            raise TypeError(f"reader must be a Reader, got {shown(reader)}")
        views_of(recipe)
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype must be a torch.dtype, got {shown(dtype)}")
        check_choice("impl", impl, IMPLEMENTATIONS)
        self.reader, self.recipe = reader, recipe
        self.device = None if device is None else as_device(device)
        self.dtype, self.impl = dtype, impl

    def __len__(self) -> int:
        """Batches per epoch, the same on each rank."""
        return len(self.reader)

    def __iter__(self) -> Iterator[ViewBatch]:
        order = self.reader.order
        for images, labels, indices in self.reader:
            device = self.device or labels.device
            numbers = order.seed, order.rank, self.reader.step - 1
            views, parameters = make_views(
                images.to(device), self.recipe, seeded_generator(*numbers, device=device),
                dtype=self.dtype, impl=self.impl,
            )  # fmt: skip
            yield ViewBatch(views, parameters, *(to_device(x, device) for x in (labels, indices)))

    @property
    def skipped(self) -> list[str]:
        """Names of images that could not be decoded so far."""
        return self.reader.skipped

    def state_dict(self) -> dict[str, Any]:
        """The state for ``load_state_dict``, as plain numbers and strings."""
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from ``state``; raises like ``Reader.load_state_dict``."""
        self.reader.load_state_dict(state)
