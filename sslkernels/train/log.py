"""The log of a run: a progress bar and lines on a terminal, JSON otherwise and on disk."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

METRICS, STEPS = "metrics.jsonl", "steps.jsonl"
EVALUATED = ("rankme", "knn_accuracy")  # either is present after an evaluation


class Log:
    """Writes ``metrics.jsonl``, a line per epoch, and ``steps.jsonl``, a line every few steps.

    Lines of steps after ``done`` are dropped, since a resumed run repeats those steps. TensorBoard
    gets the same numbers, if it is installed.

    Args:
        folder: the folder of the files.
        steps: of the whole run.
        epochs: of the whole run.
        done: steps done before.
        is_silent: write and print nothing, because another rank does.
    """

    def __init__(self, folder: Path, steps: int, epochs: int, done: int, is_silent: bool):
        self.folder, self.epochs, self.is_silent = folder, epochs, is_silent
        self.history = _read_until(folder / METRICS, done)
        self.bar, self._board, self._files = None, None, {}
        if is_silent:
            return
        for name, rows in ((METRICS, self.history), (STEPS, _read_until(folder / STEPS, done))):
            kept = folder / f"{name}.unfinished"
            kept.write_text("".join(map(_line, rows)))
            os.replace(kept, folder / name)  # atomic: no line is lost if killed
            self._files[name] = (folder / name).open("a")
        self.bar = _progress_bar(steps, done)
        self._board = _tensorboard(folder, done)

    def step(self, loss: float) -> None:
        """Log one step."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self.bar.update()

    def steps(self, row: dict[str, float]) -> None:
        """Log several steps."""
        self._write(STEPS, row)

    def epoch(self, row: dict[str, float]) -> None:
        """Log an epoch."""
        self.history.append(row)
        self._write(METRICS, row)
        if self.is_silent:
            return
        if sys.stdout.isatty():
            if self.bar is None or not row.keys().isdisjoint(EVALUATED):
                (print if self.bar is None else self.bar.write)(_describe(row, self.epochs))
        else:
            print(_line(row), end="", flush=True)

    def _write(self, name: str, row: dict[str, float]) -> None:
        if self.is_silent:
            return
        self._files[name].write(_line(row))
        self._files[name].flush()
        if self._board is not None:
            kind = name.partition(".")[0]
            for key, value in row.items():
                self._board.add_scalar(f"{kind}/{key}", value, row["step"])

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type | None, error: Any, trace: TracebackType | None) -> None:
        for thing in (self.bar, self._board, *self._files.values()):
            if thing is not None:
                thing.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl``, one per epoch; empty if there is no such file."""
    return _read_until(folder / METRICS, math.inf)


def _read_until(path: Path, step: float) -> list[dict[str, float]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # a truncated line
            break
        if row["step"] <= step:
            rows.append(row)
    return rows


def _line(row: dict[str, float]) -> str:
    rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
    return json.dumps(rounded) + "\n"


def _describe(row: dict[str, float], epochs: int) -> str:
    parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"]
    if "knn_accuracy" in row:
        parts.append(f"kNN {row['knn_accuracy']:6.1%}")
    if "rankme" in row:
        parts.append(f"RankMe {row['rankme']:.1f}")
    if "label_accuracy" in row:
        parts.append(f"labels {row['label_accuracy']:6.1%}")
    parts += [f"loss {row['loss']:.3f}", f"learning rate {row['learning_rate']:.1e}"]
    if "embedding_spread" in row:
        parts.append(f"spread {row['embedding_spread']:.2f}")
    parts += [f"{row['images_per_second']:,.0f} images/s", f"{row['seconds']:.0f} s"]
    return "  ".join(parts)


def _progress_bar(total: int, done: int) -> tqdm | None:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        print("No progress bar: tqdm is missing; try `pip install tqdm`.")
        return None
    return tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, leave=False)


def _tensorboard(folder: Path, done: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=done + 1)
