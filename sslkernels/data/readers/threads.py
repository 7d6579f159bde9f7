"""The threads that decode images."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from torch.utils.data import get_worker_info


def available_cores() -> int:
    """The cores that this process may use, shared with the ranks and workers on this machine.

    The ranks of this machine are counted by ``LOCAL_WORLD_SIZE``, which torchrun sets; the workers
    are those of the ``DataLoader`` of this process.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    worker = get_worker_info()
    sharers = (int(ranks) if ranks.isdigit() else 1) * (worker.num_workers if worker else 1)
    return max(1, cores // max(1, sharers))


class Threads:
    """A thread pool that each process starts for itself: it is not forked or pickled.

    Args:
        count: None: ``available_cores()``.
    """

    def __init__(self, count: int | None):
        self._asked = count
        self._process = 0  # the process that started the pool

    @property
    def count(self) -> int:
        return self._asked or available_cores()

    @property
    def pool(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self.count), os.getpid()
        return self._pool

    def __reduce__(self) -> tuple[type[Threads], tuple[int | None]]:
        return Threads, (self._asked,)
