"""What all readers have in common: epochs, shares, skipped images, and resuming."""

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
    """N images as they were stored, to make views of.

    Attributes:
        images: ``RaggedImages``, or (N, height, width[, channels]) uint8 where all have one size.
        labels: (N,) int64.
        indices: (N,) int64, which images of the reader's these are.
    """

    images: RaggedImages | Tensor
    labels: Tensor
    indices: Tensor


class Reader(IterableDataset, ABC):
    """Batches of images, in a new order each epoch.

    Iterating goes to the end of the current epoch, which is a whole epoch unless the last
    iteration was left early or a state was loaded: then it goes on with the next batch. Batches
    are a function of the seed, the rank and the number of the step, so that a reader whose state
    is loaded gives the batches that would have followed, bit for bit.

    The workers of ``DataLoader(reader, batch_size=None, num_workers=…)`` share an epoch out, and
    its batches come in the same order. Each worker counts for itself: set ``reader.step`` to
    ``epoch * len(reader)`` before an epoch, or take ``persistent_workers=True``.

    An image that cannot be decoded is skipped: its name is added to ``skipped``, a warning says
    why, and another image takes its place (see ``EpochOrder.batch``).

    Args:
        names: of the images.
        fingerprint: a number that tells these images from others.
        batch_size: images per batch of one rank; the last incomplete batch is dropped.
        seed: of the order, from 0 to 2^63 − 1.
        rank, world_size: this process's share of each epoch, of how many.

    Attributes:
        step: batches handed out since the first epoch began.
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
            self.step = end  # the last batches were others'

    @property
    def skipped(self) -> list[str]:
        return [str(self._names[index]) for index in sorted(self._unreadable)]

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs, of plain numbers and strings."""
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
        """Go on where ``state`` was taken, with the batch that would have followed.

        Raises:
            TypeError: ``state`` is no mapping.
            ValueError: it is none of a reader, or of one that had other images, another batch size,
                seed, rank or number of ranks.
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
        """The batches of these steps, in their order."""

    def _skip(self, index: int, reason: str) -> None:
        if index not in self._unreadable:
            self._unreadable[index] = reason
            warnings.warn(f"skipped {self._names[index]}: {' '.join(reason.split())}", stacklevel=2)


class FileReader(Reader):
    """A reader of image files, whose threads each process starts for itself.

    Attributes:
        images: the files.
        upright: whether images are turned as EXIF's orientation says.
        threads: how many read and decode.
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
    """Read the images of a step, and others in place of those that failed or fail now.

    Args:
        order: says which images, and which in place of which.
        step: the number of the batch.
        failed: images that are known to fail.
        read: reads one image; raises OSError or ValueError where that fails.
        map: calls a function on each of a list, in their order.

    Returns:
        ``(indices, images, failures)``: what the batch is made of, what ``read`` returned for
        each, and images that failed now, with the reason.
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
