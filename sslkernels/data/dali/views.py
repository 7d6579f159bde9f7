"""Views made inside DALI: decoded once, then every view of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..readers.epoch_order import seeded_generator
from ..readers.images import EncodedImages
from ..readers.pil import image_size
from ..recipes.view import View
from .draw import DrawnViews, draw_views
from .reader import DALIReader, _Run


class ViewBatch(NamedTuple):
    """V views of each of N images.

    Attributes:
        views: V tensors (N, 3, size, size) float32, normalised.
        drawn: what made them, on the CPU; crops, flips and turns among it.
        sizes: (N, 2) int64, height and width of the images, on the CPU.
        labels: (N,) int64.
        indices: (N,) int64, which images of the reader's these are.
    """

    views: tuple[Tensor, ...]
    drawn: DrawnViews
    sizes: Tensor
    labels: Tensor
    indices: Tensor


class DALIViewReader(DALIReader):
    """Batches of views that DALI makes, on the CPU or on a GPU; see ``Reader``.

    The random numbers are drawn by torch as a function of the seed, the rank and the step, and fed
    to DALI, whose graph they make a function without state. ``python -m sslkernels.data.dali
    --explain`` prints how the operations differ from torchvision's.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: as for ``Reader``.
        views: the recipe, a distribution per view.
        turn: turn each view by a random multiple of 90°, after its flip: a view's label is its
            number in ``drawn.quarter_turns``.
        device, threads: as for ``DALIReader``.

    Raises:
        ImportError: DALI or PIL is missing.
        ValueError: there is no such device, a number is out of range, or there are no views.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        views: Sequence[View],
        *,
        turn: bool = False,
        device: torch.device | str = "cpu",
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if not views:
            raise ValueError("views must hold at least one View, got none")
        super().__init__(
            images,
            batch_size,
            device=device,
            threads=threads,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.views, self.turn = tuple(views), turn

    def _load(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        encoded = super()._load(index)
        return encoded, image_size(encoded)

    def _inputs(self, step: int, loaded: list[Any]) -> tuple[tuple[Any, ...], Any]:
        from .graph import pack

        encoded, sizes = zip(*loaded, strict=True)
        sizes = torch.tensor(sizes)
        generator = seeded_generator(self.order.seed, self.order.rank, step)
        drawn = draw_views(self.views, sizes, generator, turn=self.turn)
        return (list(encoded), pack(drawn)), (drawn, sizes)

    def _graph(self) -> tuple[Any, ...]:
        from nvidia.dali import fn, types

        from .graph import make_views

        encoded, numbers = fn.external_source(
            self._feed, 2, dtype=[types.UINT8, types.FLOAT], ndim=[1, 2]
        )
        return tuple(make_views(self._decode(encoded), numbers, self.views, self.turn))

    def _batch(self, outputs: tuple[Any, ...], run: _Run) -> ViewBatch:
        from .handover import to_dense

        views = tuple(to_dense(view) for view in outputs)
        return ViewBatch(views, *run.origin, *self._labels_and_indices(run))
