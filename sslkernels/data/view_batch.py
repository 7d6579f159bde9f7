"""Batches of views, whoever makes them."""

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
        parameters: what made them: (V, N, 13) float32 as ``draw_parameters`` draws them; of moved
            digits (V, N, 2, 3), from places on the canvas to pixels.
        labels: (N,) int64.
        indices: (N,) int64, which images of the reader's these are.
        quarter_turns: (V, N) int64 in 0..3, counter-clockwise, after the flip; None: not turned.
    """

    views: list[Tensor]
    parameters: Tensor
    labels: Tensor
    indices: Tensor
    quarter_turns: Tensor | None = None

    def coordinates(self, view: int, cells: int) -> Tensor:
        """Where the cells of a view's grid have their centres, in their images.

        Args:
            view: which one.
            cells: along each side of the view.

        Returns:
            (N, cells, cells, 2): row and column in pixels of the image, flipped as the view is.
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
    """Batches of views that ``augment_views`` makes of what a reader reads.

    Epochs, shares, workers, skipped images and resuming are those of the reader. Random numbers
    follow from its seed, its rank and the step: on the CPU they are those of ``DALIViewReader``.

    Args:
        reader: of images of 3 channels, or of 1.
        recipe: such as ``SimCLRViews``, or any views.
        device: where the views are made; default: where the reader has the images.
        dtype, impl: see ``augment_views``.

    Raises:
        TypeError, ValueError: an argument is of another type, or none of those above.
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
        """What ``load_state_dict`` needs, of plain numbers and strings."""
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken; raises as ``Reader.load_state_dict`` does."""
        self.reader.load_state_dict(state)
