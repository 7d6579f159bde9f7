"""The training loop: plain PyTorch, one file, made to be read and copied."""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .evaluate import embedding_spread
from .grad_cache import GradCache
from .recipe import Recipe

if TYPE_CHECKING:
    from tqdm import tqdm

COLUMNS = (
    "epoch",
    "seconds",
    "loss",
    "knn_accuracy",
    "learning_rate",
    "embedding_spread",
    "images_per_second",
)


def train(
    method: nn.Module,
    views: Iterable[tuple[Tensor, ...]],
    recipe: Recipe,
    run_dir: Path,
    evaluate: Callable[[nn.Module], float],
) -> list[dict[str, float]]:
    """Train ``method`` on ``views`` with AdamW, linear warm-up and a cosine schedule.

    Writes ``metrics.csv`` as it goes and ``checkpoint.pt`` at the end, or when interrupted by
    Ctrl-C, both into ``run_dir``.

    Args:
        method: ``method(*views)`` returns a tuple of embeddings, each with a row per image, and
            ``method.loss(*embeddings)`` the loss; it has a ``backbone``.
        views: iterating once is one epoch; has a length, and yields a tuple of views, each
            (batch, channels, height, width), on the device of ``method``.
        recipe: the settings.
        run_dir: an existing folder.
        evaluate: maps the backbone to its accuracy in [0, 1]; called every
            ``recipe.evaluate_every`` epochs and after the last.

    Returns:
        One row per epoch, keyed by ``COLUMNS``; ``knn_accuracy`` is NaN where not evaluated.
        ``seconds`` is training time since the start, evaluation left out.

    Raises:
        FloatingPointError: the loss became infinite or NaN; the message says where.
    """
    method.to(memory_format=torch.channels_last)
    steps = recipe.epochs * len(views)
    optimizer = make_optimizer(method, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(warmup_cosine, steps, recipe.warmup_epochs * len(views))
    )
    history: list[dict[str, float]] = []
    seconds = 0.0
    bar = _progress_bar(steps)
    report = print if bar is None else bar.write
    try:
        with (run_dir / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for epoch in range(1, recipe.epochs + 1):
                row = train_epoch(method, views, optimizer, schedule, recipe, epoch, bar)
                seconds += row["seconds"]
                is_evaluated = epoch % recipe.evaluate_every == 0 or epoch == recipe.epochs
                accuracy = evaluate(method.backbone) if is_evaluated else math.nan
                row |= {"seconds": seconds, "knn_accuracy": accuracy}
                history.append(row)
                writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
                file.flush()
                if is_evaluated:
                    report(_describe(row, recipe.epochs))
                    sys.stdout.flush()
    except KeyboardInterrupt:
        save_checkpoint(run_dir / "checkpoint.pt", method, optimizer, recipe, len(history))
        raise
    finally:
        if bar is not None:
            bar.close()
    save_checkpoint(run_dir / "checkpoint.pt", method, optimizer, recipe, len(history))
    return history


def train_epoch(
    method: nn.Module,
    views: Iterable[tuple[Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    epoch: int,
    bar: tqdm | None,
) -> dict[str, float]:
    """One pass over ``views``; returns its row of metrics, without the accuracy."""
    device = next(method.parameters()).device
    method.train()
    total_loss, start = 0.0, time.perf_counter()
    for step, batch in enumerate(views, 1):
        batch = [view.contiguous(memory_format=torch.channels_last) for view in batch]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.bfloat16):
            optimizer.zero_grad()
            loss, embeddings = backward(method, batch, recipe.micro_batch)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at epoch {epoch}, step {step} of {len(views)}; "
                f"a learning_rate below {recipe.learning_rate:g} may help"
            )
        optimizer.step()
        method.after_step(((epoch - 1) * len(views) + step) / (recipe.epochs * len(views)))
        learning_rate = schedule.get_last_lr()[0]
        schedule.step()
        total_loss += value
        if bar is not None:
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch,
        "seconds": seconds,
        "loss": total_loss / len(views),
        "learning_rate": learning_rate,
        "embedding_spread": embedding_spread(embeddings[0]).item(),
        "images_per_second": len(views) * recipe.batch_size / seconds,
    }


def backward(
    method: nn.Module, batch: Sequence[Tensor], micro_batch: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Add the gradients of a batch of views to ``.grad``; return its loss and embeddings.

    The network sees ``micro_batch`` images of a view at a time (0: all of them).
    """
    if micro_batch and micro_batch < len(batch[0]):
        return GradCache(method, method.loss, micro_batch)(*batch)
    embeddings = method(*batch)
    loss = method.loss(*embeddings)
    loss.backward()
    return loss.detach(), tuple(x.detach() for x in embeddings)


def warmup_cosine(total_steps: int, warmup_steps: float, step: int) -> float:
    """Fraction of the peak learning rate at a step: linear up, then a half cosine down to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(method: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101); biases and norms do not decay."""
    parameters = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def save_checkpoint(
    path: Path, method: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int
) -> None:
    """Write weights, optimiser and recipe; ``path`` is complete or untouched, never half written.

    Read it with ``torch.load(path, weights_only=True)``; the key "backbone" holds what most
    uses need.
    """
    unfinished = path.with_suffix(".unfinished")
    torch.save(
        {
            "backbone": method.backbone.state_dict(),
            "method": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "recipe": asdict(recipe),
            "epoch": epoch,
        },
        unfinished,
    )
    os.replace(unfinished, path)


def _describe(row: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
        f"  kNN {row['knn_accuracy']:6.1%}"
        f"  loss {row['loss']:.3f}"
        f"  learning rate {row['learning_rate']:.1e}"
        f"  spread {row['embedding_spread']:.2f}"
        f"  {row['images_per_second']:,.0f} images/s"
        f"  {row['seconds']:.0f} s"
    )


def _progress_bar(total: int) -> tqdm | None:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        print("No progress bar: tqdm is missing; `pip install sslkernels[train]` brings it.")
        return None
    return tqdm(total=total, unit="step", dynamic_ncols=True, leave=False)
