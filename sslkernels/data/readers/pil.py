"""Images decoded by PIL in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import torch

from ...primitives.augment_views.images import RaggedImages
from .decode import decode, import_pil
from .images import EncodedImages
from .reader import Batch, FileReader, collect


class PILReader(FileReader):
    """Batches of ``RaggedImages`` (RGB, on the CPU) decoded by PIL; see
    :class:`sslkernels.data.Reader`.

    Decoding releases the GIL, so threads work as well as processes, and copy nothing. Each thread
    decodes a batch; one more batch than threads is in progress.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.
        upright: apply EXIF's orientation; False: images as stored.
        threads: None: the cores of this process, shared with the ranks on this machine and the
            workers of a ``DataLoader``.

    Raises:
        ImportError: PIL is missing.
        TypeError, ValueError: an argument has the wrong type, or is out of range.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        *,
        upright: bool = False,
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        import_pil()
        super().__init__(
            images, batch_size, upright=upright, threads=threads, seed=seed, rank=rank,
            world_size=world_size,
        )  # fmt: skip

    def _read(self, steps: range) -> Iterator[Batch]:
        waiting, pool, most = iter(steps), self._threads.pool, self.threads
        running: deque[Future[tuple[Batch, dict[int, str]]]] = deque()
        try:
            for _ in steps:
                for step in waiting:
                    running.append(pool.submit(self._decode, step))
                    if len(running) > most:
                        break
                batch, failures = running.popleft().result()
                for index, reason in failures.items():
                    self._skip(index, reason)
                yield batch
        finally:
            for future in running:
                future.cancel()

    def _decode(self, step: int) -> tuple[Batch, dict[int, str]]:
        known = dict(self._unreadable)
        indices, images, failures = collect(
            self.order,
            step,
            known,
            lambda index: decode(self.images.read(index), upright=self.upright),
        )
        # numpy, because torch would start threads of its own that compete with these
        data = torch.from_numpy(np.concatenate([image.reshape(-1) for image in images]))
        lengths = torch.tensor([image.size for image in images])
        sizes = torch.tensor([image.shape[:2] for image in images])
        ragged = RaggedImages(data, lengths.cumsum(0) - lengths, sizes, 3)
        return Batch(ragged, self.images.labels[indices], indices), failures
