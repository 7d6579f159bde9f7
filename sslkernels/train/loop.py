"""The training loop: plain PyTorch in one file, to be read and copied.

It runs with or without torchrun, and a run that was stopped resumes bit for bit.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..distributed import all_ranks, synchronize_batch_norm
from ..metrics.encode import settle_precision
from . import checkpoint
from .arguments import check_arguments
from .buffers import Buffers, FiniteBuffers
from .checkpoint import CHECKPOINT
from .late import Late
from .log import Log
from .methods import Method
from .optimizers import make_optimizer, restore, set_schedule
from .recipe import Recipe
from .step import forward_backward, gradient_norm, memory_format, update

LATE = ("cuda",)  # devices without synchronisation with the host


class Stopped(Exception):
    """Training was stopped by a signal, and has written a checkpoint.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped after step {step}")
        self.signal = number


def train(
    method: Method,
    batches: Any,
    recipe: Recipe,
    folder: str | Path,
    evaluate: Callable[[nn.Module], dict[str, float]] = lambda backbone: {},
    *,
    resume: bool = False,
    started: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """Train ``method`` on ``batches``, with linear warm-up and a cosine schedule.

    Writes ``metrics.jsonl``, ``steps.jsonl`` and ``checkpoint.pt`` into ``folder``. The checkpoint
    is written every ``recipe.checkpoint_every`` epochs, at the end, and on SIGTERM or Ctrl-C after
    the current step; always before an evaluation, which a resumed run makes up for. If
    torch.distributed is initialised, ranks train together; rank 0 evaluates and writes.

    A step whose loss, gradients or buffers are not finite changes neither weights nor optimiser
    state, and training ends before the next update. The host never waits for a CUDA device: the
    numbers of a step are read during the next one, and the device itself skips the update.

    Args:
        method: the method to train, on its device.
        batches: an iterable over one epoch of this rank's ``ViewBatch`` objects, with a length,
            ``state_dict`` and ``load_state_dict``, such as the readers of ``sslkernels.data``.
        recipe: the settings.
        folder: must exist on rank 0.
        evaluate: maps the backbone to numbers that are logged with the loss, such as
            ``{"knn_accuracy": 0.9}``; called every ``recipe.evaluate_every`` epochs and after the
            last. It does not affect the random numbers of training.
        resume: continue from the checkpoint in ``folder`` as if there had been no interruption: on
            a CPU, bit for bit. Only ``epochs`` may be larger than before: the schedules are then
            those of the longer run.
        started: called after all checks, before anything is written.

    Returns:
        A row per epoch with epoch, step, seconds (of training), loss, learning_rate,
        images_per_second, and the results of ``method.monitor`` (last batch) and ``evaluate``.

    Raises:
        FloatingPointError: the loss, a gradient or a buffer became infinite or NaN. ``failure.pt``
            holds weights, buffers and optimiser state from before that step, and the indices of its
            images. (On CUDA, a momentum teacher has been updated once more.)
        Stopped: a signal asked for it.
        TypeError, ValueError: an argument is none of the above; with ``resume``, there is no
            checkpoint, or one of another method, recipe or number of ranks.
        OSError: ``folder`` cannot be written; the last checkpoint is intact.
    """
    check_arguments(method, batches, recipe, folder, evaluate, resume, started)
    folder = Path(folder)
    device = next(method.parameters()).device
    rank, ranks = all_ranks()
    saved = checkpoint.load(folder / CHECKPOINT, keys=checkpoint.WHOLE) if resume else None
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
    buffers = FiniteBuffers(method)
    optimizer = make_optimizer(method, recipe, can_skip=is_late)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
    step, totals = 0, {"loss": 0.0, "seconds": 0.0}

    def state(**more: Any) -> dict[str, Any]:
        own = {"reader": batches.state_dict(), "random": checkpoint.random_state()}
        return {
            "class": type(method).__name__,
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
        checkpoint.check_same(saved, type(method).__name__, asdict(recipe), ranks)
        checkpoint.load_into(method, saved)
        restore(optimizer, saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        step, totals = saved["step"], saved["totals"]
        batches.load_state_dict(saved["ranks"][rank]["reader"])
        checkpoint.set_random_state(saved["ranks"][rank]["random"])
    started()

    steps_per_epoch = len(batches)
    steps = recipe.epochs * steps_per_epoch
    unread: deque[_Step] = deque()  # one step stays unread if is_late

    def read(done: _Step) -> tuple[dict[str, float], float]:
        """The log row of a step and the signal, if any; raises if a number is not finite."""
        value, gradient, buffer, signal_number, *watched = done.numbers.read()
        checked = {"loss": value, "norm of the gradients": gradient, "largest buffer": buffer}
        for name, number in checked.items():
            if not math.isfinite(number):
                done.before.restore()
                save("failure.pt", images=done.images, step=done.row["step"] - 1)
                raise FloatingPointError(_failure(name, number, done, recipe))
        totals["loss"] += value
        log.step(value)
        row = done.row | {"loss": value}
        if done.watched is not None:
            row |= zip(done.watched, watched, strict=True)
            speed = (row["step"] - first) * recipe.batch_size / (time.perf_counter() - start)
            row["images_per_second"] = speed
            log.steps(row)
        return row, signal_number

    def end_epoch(row: dict[str, float]) -> None:
        """Evaluate if due, and log the epoch."""
        is_due = row["epoch"] % recipe.evaluate_every == 0 or row["step"] == steps
        if is_due and rank == 0:
            drawn = checkpoint.random_state()
            row = row | evaluate(method.backbone)
            checkpoint.set_random_state(drawn)
        log.epoch(row)

    with (
        Log(folder, steps, recipe.epochs, step, is_silent=rank > 0) as log,
        signals() as received,
    ):
        ended: dict[str, float] | None = saved.get("ended") if saved else None
        if ended and (not log.history or log.history[-1]["step"] < step):
            end_epoch(ended)  # interrupted before
        while step < steps:
            start, first, signal_number = time.perf_counter(), step, 0.0
            method.train()
            for batch in batches:
                method.progress = step / steps
                learning_rate = set_schedule(optimizer, recipe, step, steps_per_epoch)
                views = [view.contiguous(memory_format=layout) for view in batch.views]
                inputs = method.inputs(batch._replace(views=views))
                before = Buffers(method)
                loss, embeddings = forward_backward(network, method, inputs, recipe, scaler)
                norm = gradient_norm(method, optimizer, scaler)
                own = torch.stack([x.double() for x in (loss, norm, buffers.largest(loss))])
                numbers = _over_ranks(own, max(received, default=0))
                skip = ~numbers[:3].isfinite().all() if is_late else None
                row: dict[str, float] = {"epoch": step // steps_per_epoch + 1, "step": step + 1}
                row |= {"learning_rate": learning_rate}
                watched = None
                if row["step"] % recipe.log_every == 0 or row["step"] % steps_per_epoch == 0:
                    seen = method.monitor(*embeddings)
                    watched = tuple(seen)
                    numbers = torch.stack([*numbers, *(x.to(numbers) for x in seen.values())])
                unread.append(_Step(row, batch.indices, watched, before, Late(numbers)))
                if len(unread) > is_late:
                    row, signal_number = read(unread.popleft())
                update(method, optimizer, scaler, recipe.clip, norm, skip)
                step += 1
                method.progress = step / steps
                method.after_step()
                if signal_number and step % steps_per_epoch:
                    break
            while unread:
                row, signal_number = read(unread.popleft())
            totals["seconds"] += time.perf_counter() - start
            ended, epoch = None, step // steps_per_epoch
            if step % steps_per_epoch == 0:
                loss_of_epoch = totals["loss"] / steps_per_epoch
                ended = row | {"seconds": totals["seconds"], "loss": loss_of_epoch}
                totals["loss"] = 0.0
                nothing = torch.zeros(1, dtype=torch.float64, device=device)
                signal_number = _over_ranks(nothing, max(received, default=0)).tolist()[-1]
            if signal_number or step == steps or epoch % recipe.checkpoint_every == 0:
                _check_weights(method, step)
                save(CHECKPOINT, ended=ended)
            if signal_number:
                raise Stopped(int(signal_number), step)
            if ended:
                end_epoch(ended)
        return log.history


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of raising; a second Ctrl-C raises."""
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
    except ValueError:  # not the main thread, which alone can handle signals
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Step(NamedTuple):
    """A step whose numbers the host may not have read yet."""

    row: dict[str, float]
    images: Tensor
    watched: tuple[str, ...] | None  # names of further numbers to log; None: not logged
    before: Buffers
    numbers: Late


def _over_ranks(own: Tensor, number: int) -> Tensor:
    """The mean loss and the maximum of the other numbers and of the signal over ranks, the same on
    all ranks, which thus stop together."""
    rank, ranks = all_ranks()
    own = torch.cat([own, own.new_full((1,), number)])
    if ranks == 1:
        return own
    every = own.new_zeros(ranks, len(own))
    every[rank] = own
    dist.all_reduce(every)
    return torch.cat([every[:, :1].mean(0), every[:, 1:].amax(0)])


def _from_all_ranks(own: dict[str, Any]) -> list[dict[str, Any]]:
    _, ranks = all_ranks()
    if ranks == 1:
        return [own]
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, own)
    return found


def _check_weights(method: nn.Module, step: int) -> None:
    """Raise if finite gradients led to weights that are not, before a checkpoint is written."""
    if not nn.utils.get_total_norm(list(method.parameters())).isfinite():
        raise FloatingPointError(f"the norm of the weights is not finite after step {step}")


def _failure(name: str, value: float, step: _Step, recipe: Recipe) -> str:
    first = ", ".join(map(str, step.images[:8].tolist()))
    return (
        f"the {name} is {value} at step {step.row['step']}, of images {first}"
        f"{', …' * (len(step.images) > 8)}; failure.pt holds the state before it; a learning_rate "
        f"below {recipe.learning_rate:g}, clip=1 or another precision than {recipe.precision} may "
        f"help"
    )
