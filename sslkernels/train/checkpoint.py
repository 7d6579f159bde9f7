"""The complete state of a run in one file, from which it resumes exactly."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CHECKPOINT = "checkpoint.pt"
WEIGHTS = ("method",)  # needed to load a run …
WHOLE = (*WEIGHTS, "optimizer", "scaler", "recipe", "step", "totals", "ranks")  # … and to resume it


def save(state: dict[str, Any], path: Path) -> None:
    """Write ``state``; ``path`` is complete or untouched, never half written.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_suffix(".unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except RuntimeError as error:  # torch's error if the disk is full
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def load(
    path: Path, device: torch.device | str = "cpu", keys: Sequence[str] = WEIGHTS
) -> dict[str, Any]:
    """Read a file that ``save`` wrote; it contains no code.

    Raises:
        ValueError: there is no such file, it is not a checkpoint, or it lacks one of ``keys``.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"there is no {path}: the run has not come to a checkpoint") from None
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is no checkpoint: {reason}") from error
    missing = [key for key in keys if not isinstance(saved, dict) or key not in saved]
    if missing:
        raise ValueError(f"{path} is no checkpoint of training: it lacks {missing[0]!r}")
    return saved


def check_same(saved: dict[str, Any], name: str, recipe: dict[str, Any], ranks: int) -> None:
    """Raise ValueError unless a run of this method, recipe and number of ranks can be resumed.

    A larger number of epochs is reported on stderr; no other difference is allowed.
    """
    if saved.get("class", name) != name:
        raise ValueError(f"the run that is to go on is of {saved['class']}, asked for is {name}")
    for key, value in saved["recipe"].items():
        if recipe.get(key) == value:
            continue
        if key == "epochs" and recipe[key] > value:
            print(
                f"The run goes on to {recipe[key]} epochs in place of {value}: from here on, "
                f"schedules are those of {recipe[key]}.",
                file=sys.stderr,
            )
            continue
        raise ValueError(
            f"the run that is to go on has {key}={value}, asked for is {recipe.get(key)}"
        )
    if len(saved["ranks"]) != ranks:
        raise ValueError(
            f"the run that is to go on has {len(saved['ranks'])} ranks, here are {ranks}"
        )


def load_into(
    method: nn.Module,
    saved: dict[str, Any],
    refusal: str = "the checkpoint does not fit the method",
) -> None:
    """Load the weights of a checkpoint; raises ValueError if they do not fit the network."""
    try:
        method.load_state_dict(saved["method"])
    except RuntimeError as error:  # of another version, or another backbone
        lines = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ValueError(f"{refusal}: {lines[:300]}") from error


def random_state() -> dict[str, Any]:
    """The state of every generator that a network, a loss or a reader may use."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the result of ``random_state``."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([x.cpu() for x in state["cuda"]])
