"""The base of all readers: epochs, sharding, skipped images, and resuming."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..._checks import check_flags, check_integers, shown
from ...primitives.augment_views.images import RaggedImages
from .epoch_order import EpochOrder
from .images import EncodedImages
from .threads import Threads

T = TypeVar("T")


class Batch(NamedTuple):
    """N images as stored, before augmentation.

    Attributes:
        images: ``RaggedImages``, or (N, height, width[, channels]) uint8 if all have one size.
        labels: (N,) int64.
        indices: (N,) int64, indices of the images in the reader.
    """

    images: RaggedImages | Tensor
    labels: Tensor
    indices: Tensor


class Reader(IterableDataset, ABC):
    """Batches of images, in a new order each epoch.

    Iterating goes to the end of the current epoch: a whole epoch, unless the last iteration ended
    early or a state was loaded; then it continues with the next batch. Batches are a function of
    the seed, the rank and the step, so a reader whose state is loaded yields the batches that
    would have followed, bit for bit.

    The workers of ``DataLoader(reader, batch_size=None, num_workers=…)`` share an epoch, whose
    batches come in the same order. Each worker counts separately: set ``reader.step`` to
    ``epoch * len(reader)`` before an epoch, or use ``persistent_workers=True``.

    An image that cannot be decoded is skipped: its name is added to ``skipped``, a warning gives
    the reason, and another image takes its place (see ``EpochOrder.batch``).

    Args:
        names: of the images.
        fingerprint: a number that identifies these images.
        batch_size: images per batch of one rank; the last incomplete batch is dropped.
        seed: of the order, from 0 to 2^63 − 1.
        rank, world_size: this process's rank, and the number of ranks that share an epoch.

    Attributes:
        step: batches returned since the start of the first epoch.
        skipped: names of images that could not be decoded so far.
    """

    def __init__(
        self,
        names: Sequence[str] | range,
        fingerprint: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.order = EpochOrder(len(names), batch_size, seed=seed, rank=rank, world_size=world_size)
        self.step = 0
        self._names, self._fingerprint = names, fingerprint
        self._unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        """Batches per epoch, the same on each rank."""
        return len(self.order)

    def __iter__(self) -> Iterator[Any]:
        end = (self.step // len(self) + 1) * len(self)
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        steps = range(self.step + first, end, stride)
        for step, batch in zip(steps, self._read(steps), strict=True):
            self.step = step + 1
            yield batch
        if worker:
            self.step = end  # the last batches were other workers'

    @property
    def skipped(self) -> list[str]:
        return [str(self._names[index]) for index in sorted(self._unreadable)]

    def state_dict(self) -> dict[str, Any]:
        """The state for ``load_state_dict``, as plain numbers and strings."""
        order = self.order
        return {
            "step": self.step,
            "skipped": sorted(self._unreadable.items()),
            "images": [order.count, self._fingerprint],
            "batch_size": order.batch_size,
            "seed": order.seed,
            "share": [order.rank, order.world_size],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from ``state``, with the batch that would have followed.

        Raises:
            TypeError: ``state`` is not a mapping.
            ValueError: it is not a reader's state, or that of a reader with other images, another
                batch size, seed, rank or number of ranks.
        """
        own = self.state_dict()
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be what state_dict returns, got {shown(state)}")
        missing = [key for key in own if key not in state]
        if missing:
            raise ValueError(f"state must be what state_dict returns; it lacks {missing[0]!r}")
        step, skipped = state["step"], state["skipped"]
        check_integers(0, **{"step of state": step})
        is_known = isinstance(skipped, list | tuple) and all(
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and pair[0] in range(self.order.count)
            and isinstance(pair[1], str)
            for pair in skipped
        )
        if not is_known:
            raise ValueError("skipped of state must be pairs of a number and a reason")
        for key in ("images", "batch_size", "seed", "share"):
            numbers = state[key] if isinstance(state[key], list | tuple) else [state[key]]
            if not all(isinstance(number, int) for number in numbers):
                raise ValueError(f"{key} of state must be whole numbers, got {shown(state[key])}")
            if state[key] != own[key]:
                raise ValueError(
                    f"the state is of a reader with {key} {state[key]}, this one has {own[key]}; "
                    f"make it as that one was, or start anew"
                )
        self.step, self._unreadable = step, dict(skipped)

    @abstractmethod
    def _read(self, steps: range) -> Iterable[Any]:
        """The batches of these steps, in order."""

    def _skip(self, index: int, reason: str) -> None:
        if index not in self._unreadable:
            self._unreadable[index] = reason
            warnings.warn(f"skipped {self._names[index]}: {' '.join(reason.split())}", stacklevel=2)


class FileReader(Reader):
    """A reader of image files, with threads that each process starts for itself.

    Attributes:
        images: the files.
        upright: whether EXIF's orientation is applied.
        threads: the number of threads that read and decode.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        *,
        upright: bool = False,
        threads: int | None = None,
        **share: int,
    ):
        if not isinstance(images, EncodedImages):
            raise TypeError(
                f"images must be of image_folder, image_list or webdataset, got {shown(images)}"
            )
        check_flags(upright=upright)
        if threads is not None:
            check_integers(1, threads=threads)
        super().__init__(images.names, images.fingerprint, batch_size, **share)
        self.images, self.upright, self._threads = images, bool(upright), Threads(threads)

    @property
    def threads(self) -> int:
        return self._threads.count


def collect(
    order: EpochOrder,
    step: int,
    failed: Mapping[int, str],
    read: Callable[[int], T],
    map: Callable[..., Iterable] = map,
) -> tuple[Tensor, list[T], dict[int, str]]:
    """Read the images of a step, replacing those that failed before or fail now.

    Args:
        order: gives the images and their replacements.
        step: the number of the batch.
        failed: images known to fail.
        read: reads one image; raises OSError or ValueError on failure.
        map: applies a function to each element of a list, in order.

    Returns:
        ``(indices, images, failures)``: the images of the batch, the result of ``read`` for each,
        and the images that failed now, with the reason.
    """

    def attempt(index: int) -> tuple[T | None, str | None]:
        try:
            return read(index), None
        except (OSError, ValueError) as error:
            return None, str(error)

    images: dict[int, Any] = {}
    failures: dict[int, str] = {}
    while True:
        indices = order.batch(step, {*failed, *failures})
        missing = list(dict.fromkeys(i for i in indices.tolist() if i not in images))
        if not missing:
            return indices, [images[index] for index in indices.tolist()], failures
        for index, (image, reason) in zip(missing, map(attempt, missing), strict=True):
            images[index] = image
            if reason is not None:
                failures[index] = reason
