"""Views made by DALI: each image is decoded once, for all views of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..._checks import check_flags
from ..readers.epoch_order import seeded_generator
from ..readers.images import EncodedImages
from ..recipes import View, Views, draw_parameters, views_of
from ..view_batch import ViewBatch
from .reader import DALIReader, _Run


class DALIViewReader(DALIReader):
    """Batches of views made by DALI, on the CPU or a GPU; see :class:`sslkernels.data.Reader`.

    torch draws the random numbers as a function of the seed, the rank and the step, and they are
    inputs of DALI's graph, which therefore has no state. ``python -m sslkernels.data.dali
    --explain`` prints how the operations differ from torchvision's.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.
        recipe: such as ``SimCLRViews``, or any sequence of views.
        turn: rotate each view by a random multiple of 90°, after its flip; the label of a view is
            in ``quarter_turns``.
        device, upright, threads: see :class:`sslkernels.data.DALIReader`.

    Raises:
        ImportError: DALI or PIL is missing.
        TypeError, ValueError: there is no such device, there are no views, or an argument has the
            wrong type or is out of range.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        recipe: Views | Sequence[View],
        *,
        turn: bool = False,
        device: torch.device | str = "cpu",
        upright: bool = False,
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.views = views_of(recipe)
        check_flags(turn=turn)
        super().__init__(
            images, batch_size, device=device, upright=upright, threads=threads, seed=seed,
            rank=rank, world_size=world_size,
        )  # fmt: skip
        self.turn = bool(turn)

    def _load(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        return self._hand_over(index)

    def _inputs(self, step: int, loaded: list[Any]) -> tuple[tuple[Any, ...], Any]:
        from .graph import pack

        encoded, sizes = zip(*loaded, strict=True)
        generator = seeded_generator(self.order.seed, self.order.rank, step)
        parameters = draw_parameters(self.views, torch.tensor(sizes), generator)
        quarter_turns = torch.randint(4, parameters.shape[:2], generator=generator) * self.turn
        inputs = list(encoded), pack(parameters, quarter_turns)
        return inputs, (parameters, quarter_turns)

    def _graph(self, feed: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        from nvidia.dali import fn, types

        from .graph import make_views

        dtypes = [types.DALIDataType.UINT8, types.DALIDataType.FLOAT]
        encoded, numbers = fn.external_source(feed, 2, dtype=dtypes, ndim=[1, 2])
        return tuple(make_views(self._decode(encoded), numbers, self.views))

    def _batch(self, outputs: tuple[Any, ...], run: _Run) -> ViewBatch:
        from .handover import to_dense

        parameters, quarter_turns = run.origin
        return ViewBatch(
            [to_dense(view) for view in outputs],
            parameters,
            *self._labels_and_indices(run),
            quarter_turns if self.turn else None,
        )
