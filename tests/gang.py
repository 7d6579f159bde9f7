"""Processes in a gloo group that run one function after another, each on all ranks."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = 120  # seconds


class Gang:
    """``run(function, *args)`` calls ``function(rank, *args)`` on every rank."""

    def __init__(self, size: int):
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["sslkernels"])  # once, not for each rank
        self.size = size
        self.folder = tempfile.TemporaryDirectory()
        self.tasks = [context.SimpleQueue() for _ in range(size)]
        self.results = context.Queue()
        meeting_point = (Path(self.folder.name) / "meeting_point").as_uri()
        self.processes = [
            context.Process(
                target=_work,
                args=(rank, size, meeting_point, self.tasks[rank], self.results),
                daemon=True,
            )
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable, *args) -> list:
        for task in self.tasks:
            task.put((function, args))
        found = {}
        while len(found) < self.size:
            rank, error, value = self.results.get(timeout=TIMEOUT)
            found[rank] = error, value
        errors = [f"rank {rank}: {error}" for rank, (error, _) in sorted(found.items()) if error]
        assert not errors, "\n".join(errors)
        return [found[rank][1] for rank in range(self.size)]

    def close(self) -> None:
        for task in self.tasks:
            task.put(None)
        for process in self.processes:
            process.join(10)
            process.kill()
        self.folder.cleanup()


@contextmanager
def subgroup(members: Sequence[int]) -> Iterator[dist.ProcessGroup]:
    """A temporary group of some ranks: its threads would otherwise keep polling."""
    group = dist.new_group(members)
    yield group
    dist.barrier()
    dist.destroy_process_group(group)


def _work(rank, size, meeting_point, tasks, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=size)
    while (task := tasks.get()) is not None:
        function, args = task
        try:
            torch.manual_seed(0)
            results.put((rank, None, function(rank, *args)))
        except BaseException:
            results.put((rank, traceback.format_exc(), None))
    dist.destroy_process_group()
