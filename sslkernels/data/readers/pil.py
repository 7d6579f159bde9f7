"""Images decoded by PIL in threads."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ...primitives.augment_views.images import RaggedImages
from .images import EncodedImages
from .reader import Batch, Reader, collect


class PILReader(Reader):
    """Batches of ``RaggedImages`` (RGB, on the CPU) that PIL decodes; see ``Reader``.

    Decoding leaves Python to the other threads, so threads do as well as processes, and copy
    nothing. Each decodes a batch; one more batch than threads is under way.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: as for ``Reader``.
        threads: default: as many as there are cores.

    Raises:
        ImportError: PIL is missing.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        *,
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        _import_pil()
        super().__init__(
            images.names,
            images.fingerprint,
            batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.images, self.threads = images, threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.threads)

    def _read(self, steps: range) -> Iterator[Batch]:
        waiting = iter(steps)
        running: deque[Future[tuple[Batch, dict[int, str]]]] = deque()
        try:
            for _ in steps:
                for step in waiting:
                    running.append(self._pool.submit(self._decode, step))
                    if len(running) > self.threads:
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
            self.order, step, known, lambda index: decode(self.images.read(index))
        )
        # By numpy: torch would wake threads of its own, which then spin beside the ones here.
        data = torch.from_numpy(np.concatenate([image.reshape(-1) for image in images]))
        lengths = torch.tensor([image.size for image in images])
        sizes = torch.tensor([image.shape[:2] for image in images])
        ragged = RaggedImages(data, lengths.cumsum(0) - lengths, sizes, 3)
        return Batch(ragged, self.images.labels[indices], indices), failures


def decode(encoded: bytes) -> np.ndarray:
    """Decode one image to (height, width, 3) uint8 RGB, as it is stored: EXIF turns nothing.

    Raises:
        ValueError: it cannot be decoded, or not to its end; the message is PIL's.
    """
    with _opened(encoded) as image:
        return np.array(image.convert("RGB"))


def image_size(encoded: bytes | np.ndarray) -> tuple[int, int]:
    """Height and width of an image, from its header alone; raises as ``decode`` does."""
    with _opened(encoded) as image:
        return image.height, image.width


@contextmanager
def _opened(encoded: bytes | np.ndarray) -> Iterator[Any]:
    pil = _import_pil()
    try:
        with pil.open(io.BytesIO(encoded)) as image:  # type: ignore[arg-type]
            yield image
    except pil.UnidentifiedImageError:
        raise ValueError("this is no image, by its first bytes") from None
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise ValueError(str(error)) from error


def _import_pil() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "reading image files without DALI needs PIL; `pip install pillow` brings it"
        ) from None
    return Image
