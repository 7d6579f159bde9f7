"""Images decoded by DALI: on the CPU, or by nvJPEG on a GPU."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..readers.decode import for_dali, import_pil
from ..readers.images import EncodedImages
from ..readers.reader import Batch, FileReader, collect
from .available import check_device, import_dali

PREFETCH = 2


class DALIReader(FileReader):
    """Batches of ``RaggedImages`` (RGB) decoded by DALI; see :class:`sslkernels.data.Reader`.

    Threads of this process read the files and pass them to DALI unchanged; the reader determines
    which files. Formats that DALI may not decode exactly like PIL are decoded by PIL in these
    threads. DALI keeps no state of its own. If DALI fails on an image, its pipeline ends: the
    images of that batch are then tried one by one, those that fail are skipped, and a new pipeline
    continues at the same step.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.
        device: "cpu", or a GPU ("cuda", "cuda:1", …), which then decodes and holds the images.
        upright, threads: see :class:`sslkernels.data.PILReader`.

    Raises:
        ImportError: DALI or PIL is missing.
        TypeError, ValueError: there is no such device, or an argument has the wrong type or is out
            of range.
            range.
    """

    def __init__(
        self,
        images: EncodedImages,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        upright: bool = False,
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        import_dali()
        import_pil()
        super().__init__(
            images, batch_size, upright=upright, threads=threads, seed=seed, rank=rank,
            world_size=world_size,
        )  # fmt: skip
        self.device = check_device(device)
        self._idle: _Work | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_idle": None}

    def _read(self, steps: range) -> Iterator[Any]:
        if self._idle and self._idle.process != os.getpid():
            _OTHERS.append(self._idle)  # of a parent process; its threads do not exist after a fork
            self._idle = None
        work, self._idle = self._idle or self._make_work(), None
        work.waiting.extend(steps)
        while work.waiting or work.running:
            try:
                outputs = work.pipeline.run(self._stream())
            except RuntimeError as error:
                self._skip_what_fails(work.running, error)
                unfinished = [*(run.step for run in work.running), *work.waiting]
                work = self._make_work()
                work.waiting.extend(unfinished)
                continue
            yield self._batch(outputs, work.running.popleft())
        work.pipeline.reset()
        self._idle = work  # an iteration that ends early drops its pipeline

    def _load(self, index: int) -> Any:
        """Read an image, in a thread; raises OSError or ValueError if that fails."""
        return self._hand_over(index)[0]

    def _hand_over(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        encoded = np.frombuffer(self.images.read(index), np.uint8)
        return for_dali(encoded, upright=self.upright)

    def _inputs(self, step: int, loaded: list[Any]) -> tuple[tuple[Any, ...], Any]:
        """The inputs of the pipeline, files first, and what ``_batch`` needs to know about them."""
        return (loaded,), None

    def _graph(self, feed: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """The outputs of the pipeline, fed by ``feed``."""
        from nvidia.dali import fn, types

        (encoded,) = fn.external_source(feed, 1, dtype=types.DALIDataType.UINT8, ndim=1)
        return (self._decode(encoded),)

    def _batch(self, outputs: tuple[Any, ...], run: _Run) -> Any:
        """The batch that the reader returns."""
        from .handover import to_ragged

        (images,) = outputs
        return Batch(to_ragged(images), *self._labels_and_indices(run))

    def _decode(self, encoded: Any) -> Any:
        from .graph import decode

        return decode(encoded, "cpu" if self.device.type == "cpu" else "mixed")

    def _labels_and_indices(self, run: _Run) -> tuple[Tensor, Tensor]:
        return self.images.labels[run.indices].to(self.device), run.indices.to(self.device)

    def _make_work(self) -> _Work:
        waiting: deque[int] = deque()
        running: deque[_Run] = deque()

        def feed() -> tuple[Any, ...]:
            return self._feed(waiting, running)

        def graph() -> tuple[Any, ...]:  # defined here so that AutoGraph rewrites it
            return self._graph(feed)

        pipeline = self._build(graph, self.order.batch_size, PREFETCH)
        return _Work(pipeline, waiting, running, os.getpid())

    def _feed(self, waiting: deque[int], running: deque[_Run]) -> tuple[Any, ...]:
        """Called by DALI, some steps ahead of the batch that it returns."""
        if not waiting:
            raise StopIteration
        indices, loaded, failures = collect(
            self.order, waiting[0], self._unreadable, self._load, self._threads.pool.map
        )
        for index, reason in failures.items():
            self._skip(index, reason)
        inputs, origin = self._inputs(waiting[0], loaded)
        running.append(_Run(waiting.popleft(), indices, inputs[0], origin))
        return inputs

    def _stream(self) -> torch.cuda.Stream | None:
        """The stream on which torch will use the outputs; DALI reuses their memory in its order."""
        return torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

    def _build(self, graph: Any, batch_size: int, prefetch: int) -> Any:
        from nvidia.dali import pipeline_def

        pipeline = pipeline_def(
            enable_conditionals=True,
            batch_size=batch_size,
            num_threads=self.threads,
            device_id=self.device.index,
            prefetch_queue_depth=prefetch,
        )(graph)()
        pipeline.build()
        return pipeline

    def _skip_what_fails(self, running: deque[_Run], error: RuntimeError) -> None:
        """Skip the images of the first run that DALI cannot decode."""
        for run in running:
            failures = self._undecodable(run)
            for index, reason in failures.items():
                self._skip(index, reason)
            if failures:
                return
        raise error

    def _undecodable(self, run: _Run) -> dict[int, str]:
        from nvidia.dali import fn, types

        def graph():
            return self._decode(
                fn.external_source(name="encoded", dtype=types.DALIDataType.UINT8, ndim=1)
            )

        failures, pipeline = {}, None
        for index, encoded in zip(run.indices.tolist(), run.encoded, strict=True):
            if pipeline is None:
                pipeline = self._build(graph, 1, 1)
            try:
                pipeline.feed_input("encoded", [encoded])
                pipeline.run()
            except RuntimeError as error:
                failures[index], pipeline = _reason(error), None
        return failures


class _Run(NamedTuple):
    """A step in DALI's pipeline."""

    step: int
    indices: Tensor
    encoded: list[np.ndarray]
    origin: Any


class _Work(NamedTuple):
    """A pipeline of a process, the steps waiting to be fed, and the steps in progress."""

    pipeline: Any
    waiting: deque[int]
    running: deque[_Run]
    process: int


_OTHERS: list[_Work] = []


def _reason(error: RuntimeError) -> str:
    """The line of DALI's message that states the error."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "failure" in line or "Failed" in line), lines[0])
