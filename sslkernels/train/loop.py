"""The training loop: plain PyTorch, one file, made to be read and copied.

It runs under torchrun as well as alone, and a run that was stopped goes on bit for bit.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..distributed import all_ranks, synchronize_batch_norm
from ..metrics.encode import autocast, settle_precision
from . import checkpoint
from .checkpoint import CHECKPOINT
from .grad_cache import GradCache
from .late import Late
from .log import Log
from .methods import Method
from .optimizers import make_optimizer, restore, set_schedule
from .recipe import Recipe

LATE = ("cuda",)  # devices that the host does not wait for


class Stopped(Exception):
    """Training was asked to stop by a signal, and has written a checkpoint.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped after step {step}")
        self.signal = number


def train(
    method: Method,
    batches: Any,
    recipe: Recipe,
    folder: Path,
    evaluate: Callable[[nn.Module], dict[str, float]] = lambda backbone: {},
    *,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train ``method`` on ``batches``, with linear warm-up and a cosine schedule.

    Writes ``metrics.jsonl``, ``steps.jsonl`` and ``checkpoint.pt`` into ``folder``. The checkpoint
    is written every ``recipe.checkpoint_every`` epochs, at the end, and on SIGTERM or Ctrl-C after
    the step that is under way. Where torch.distributed is initialised, ranks train together; the
    first of them evaluates and writes.

    A CUDA device is never waited for: the loss of a step is read when the next one is under way,
    and the device itself leaves out the update where the loss is not finite.

    Args:
        method: what to train, on its device.
        batches: iterating once is an epoch of ``ViewBatch``, this rank's share; with a length,
            ``state_dict`` and ``load_state_dict``, as the readers of ``sslkernels.data`` have.
        recipe: the settings.
        folder: an existing folder.
        evaluate: maps the backbone to numbers that go beside the loss, such as
            ``{"knn_accuracy": 0.9}``; called every ``recipe.evaluate_every`` epochs and after the
            last.
        resume: go on from the checkpoint in ``folder``, as if there had been no interruption: on a
            CPU, bit for bit.

    Returns:
        A row per epoch: epoch, step, seconds (of training), loss, learning_rate,
        images_per_second, what ``method.monitor`` says of its last batch, and ``evaluate``.

    Raises:
        FloatingPointError: the loss became infinite or NaN. ``failure.pt`` holds the weights and
            the optimiser's state before that step, and the numbers of its images.
        Stopped: a signal asked for it.
        ValueError: with ``resume``: no checkpoint, or one of another recipe or number of ranks.
        OSError: ``folder`` cannot be written; the last checkpoint is whole.
    """
    device = next(method.parameters()).device
    rank, ranks = all_ranks()
    saved = checkpoint.load(folder / CHECKPOINT) if resume else None
    if saved and recipe.precision == "auto":
        recipe = replace(recipe, precision=saved["recipe"]["precision"])
    recipe = replace(recipe, precision=settle_precision(recipe.precision, device))
    layout = memory_format(device, recipe.precision)
    method.to(memory_format=layout)  # type: ignore[call-overload]
    if recipe.sync_batch_norm and ranks > 1:
        synchronize_batch_norm(method)
    network: nn.Module = method
    if ranks > 1:
        network = DistributedDataParallel(method, [device] if device.type == "cuda" else None)
    if recipe.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    is_late = device.type in LATE
    optimizer = make_optimizer(method, recipe, can_skip=is_late)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
    step, totals = 0, {"loss": 0.0, "seconds": 0.0}

    def state(**more: Any) -> dict[str, Any]:
        own = {"reader": batches.state_dict(), "random": checkpoint.random_state()}
        return {
            "backbone": method.backbone.state_dict(),
            "method": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "recipe": asdict(recipe),
            "step": step,
            "totals": totals,
            "ranks": _from_all_ranks(own),
            **more,
        }

    def save(name: str, **more: Any) -> None:
        everything = state(**more)
        if rank == 0:
            checkpoint.save(everything, folder / name)

    if saved:
        _check_same(saved, asdict(recipe), ranks)
        method.load_state_dict(saved["method"])
        restore(optimizer, saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        step, totals = saved["step"], saved["totals"]
        batches.load_state_dict(saved["ranks"][rank]["reader"])
        checkpoint.set_random_state(saved["ranks"][rank]["random"])

    steps_per_epoch = len(batches)
    steps = recipe.epochs * steps_per_epoch
    unread: deque[_Step] = deque()  # of which is_late leaves one

    def read(done: _Step) -> tuple[dict[str, float], float]:
        """The row of a step and the signal that ranks were sent; raises where the loss has gone."""
        value, signal_number, *watched = done.told.read()
        if not math.isfinite(value):
            save("failure.pt", images=done.images, step=done.row["step"] - 1)
            raise FloatingPointError(_failure(value, done.row["step"], done.images, recipe))
        totals["loss"] += value
        log.step(value)
        row = done.row | {"loss": value}
        if done.watched is not None:
            row |= zip(done.watched, watched, strict=True)
            speed = (row["step"] - first) * recipe.batch_size / (time.perf_counter() - start)
            row["images_per_second"] = speed
            log.steps(row)
        return row, signal_number

    with (
        Log(folder, steps, recipe.epochs, step, is_silent=rank > 0) as log,
        signals() as received,
    ):
        while step < steps:
            start, first, signal_number = time.perf_counter(), step, 0.0
            method.train()
            for batch in batches:
                method.progress = step / steps
                learning_rate = set_schedule(optimizer, recipe, step, steps_per_epoch)
                views = [view.contiguous(memory_format=layout) for view in batch.views]
                inputs = method.inputs(batch._replace(views=views))
                loss, embeddings = forward_backward(network, method, inputs, recipe, scaler)
                numbers = _over_ranks(loss, max(received, default=0))
                row: dict[str, float] = {"epoch": step // steps_per_epoch + 1, "step": step + 1}
                row |= {"learning_rate": learning_rate}
                watched = None
                if row["step"] % recipe.log_every == 0 or row["step"] % steps_per_epoch == 0:
                    seen = method.monitor(*embeddings)
                    watched = tuple(seen)
                    numbers = torch.stack([*numbers, *(x.to(numbers) for x in seen.values())])
                unread.append(_Step(row, batch.indices, watched, Late(numbers)))
                if len(unread) > is_late:
                    row, signal_number = read(unread.popleft())
                update(method, optimizer, scaler, recipe.clip, numbers[0] if is_late else None)
                step += 1
                method.progress = step / steps
                method.after_step()
                if signal_number and step % steps_per_epoch:
                    break
            while unread:
                row, signal_number = read(unread.popleft())
            totals["seconds"] += time.perf_counter() - start
            if step % steps_per_epoch == 0:
                epoch = step // steps_per_epoch
                row |= {"seconds": totals["seconds"], "loss": totals["loss"] / steps_per_epoch}
                if (epoch % recipe.evaluate_every == 0 or step == steps) and rank == 0:
                    row |= evaluate(method.backbone)
                totals["loss"] = 0.0
                log.epoch(row)
            if signal_number or step == steps or epoch % recipe.checkpoint_every == 0:
                save(CHECKPOINT)
            if signal_number and step < steps:
                raise Stopped(int(signal_number), step)
        return log.history


def forward_backward(
    network: nn.Module, method: Method, inputs: Sequence[Tensor], recipe: Recipe, scaler: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Leave the gradients of a batch in ``.grad``; return its loss and embeddings.

    The network, which may be ``method`` wrapped, sees ``recipe.micro_batch`` images of a view at a
    time (0: all of them).
    """
    method.zero_grad(set_to_none=True)
    with autocast(inputs[0].device, recipe.precision):
        if recipe.micro_batch and recipe.micro_batch < len(inputs[0]):
            cached = GradCache(network, method.loss, recipe.micro_batch, scale=scaler.scale)
            return cached(*inputs)
        embeddings = network(*inputs)
        loss = method.loss(*embeddings)
    scaler.scale(loss).backward()
    return loss.detach(), tuple(x.detach() for x in embeddings)


def memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """The layout of images that is fast; not where torch's batch normalisation loses by it."""
    # On the CPU in float32, channels last cost a digit and a half of what is normalised.
    if device.type == "cpu" and precision == "float32":
        return torch.contiguous_format
    return torch.channels_last


def update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    clip: float,
    loss: Tensor | None = None,
) -> None:
    """A step of the optimiser, after which the gradients are used up.

    It changes nothing where ``loss``, of which the host knows nothing yet, is not finite.
    """
    scaler.unscale_(optimizer)
    method.before_step()
    if clip:
        nn.utils.clip_grad_norm_(method.parameters(), clip)
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
        return
    if loss is not None:  # as a scaler tells an optimiser
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.found_inf = (~loss.isfinite()).float()  # type: ignore[attr-defined]
    optimizer.step()


@contextmanager
def signals() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C, collected instead of obeyed; a second Ctrl-C is obeyed."""
    received: list[int] = []

    def receive(number: int, frame: Any) -> None:
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(number)
        print("\nstopping after this step", file=sys.stderr, flush=True)

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, receive)
    except ValueError:  # not the main thread: signals are no matter of ours
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Step(NamedTuple):
    """A step whose loss the host may not know yet."""

    row: dict[str, float]
    images: Tensor
    watched: tuple[str, ...] | None  # what is told besides loss and signal; None: no line of it
    told: Late


def _over_ranks(loss: Tensor, number: int) -> Tensor:
    """The mean loss, and the largest signal: the same on all ranks, which thus stop together."""
    rank, ranks = all_ranks()
    told = torch.stack([loss.double(), loss.new_full((), number, dtype=torch.float64)])
    if ranks == 1:
        return told
    every = told.new_zeros(ranks, 2)
    every[rank] = told
    dist.all_reduce(every)
    return torch.stack([every[:, 0].mean(), every[:, 1].max()])


def _from_all_ranks(own: dict[str, Any]) -> list[dict[str, Any]]:
    _, ranks = all_ranks()
    if ranks == 1:
        return [own]
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, own)
    return found


def _check_same(saved: dict[str, Any], recipe: dict[str, Any], ranks: int) -> None:
    for key, value in saved["recipe"].items():
        if recipe.get(key) != value:
            raise ValueError(
                f"the run that is to go on has {key}={value}, asked for is {recipe.get(key)}"
            )
    if len(saved["ranks"]) != ranks:
        raise ValueError(
            f"the run that is to go on has {len(saved['ranks'])} ranks, here are {ranks}"
        )


def _failure(value: float, step: float, images: Tensor, recipe: Recipe) -> str:
    first = ", ".join(map(str, images[:8].tolist()))
    return (
        f"the loss is {value} at step {step}, of images {first}{', …' * (len(images) > 8)}; "
        f"failure.pt holds the state before it; a learning_rate below {recipe.learning_rate:g}, "
        f"clip=1 or another precision than {recipe.precision} may help"
    )
