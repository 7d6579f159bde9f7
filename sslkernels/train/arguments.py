"""Argument checks of ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._checks import check_flags, check_paths, shown
from ..distributed import all_ranks
from .methods import Method
from .recipe import Recipe


def check_arguments(
    method: Any, batches: Any, recipe: Any, folder: Any, evaluate: Any, resume: Any, started: Any
) -> None:
    """Raise TypeError or ValueError unless the arguments are as ``train`` documents.

    The folder is checked on the first rank only: the others do not write, and may not have it.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method must be a Method, got {shown(method)}")
    if not all(hasattr(batches, name) for name in ("__iter__", "__len__", "state_dict")):
        raise TypeError(
            f"batches must have a length and a state, as readers have, got {shown(batches)}"
        )
    if len(batches) == 0:
        raise ValueError("batches must be one at least, got none")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {shown(recipe)}")
    check_paths(folder=folder)
    if all_ranks()[0] == 0 and not Path(folder).is_dir():
        raise ValueError(f"folder must be one that exists, got {str(folder)!r}")
    for name, function in (("evaluate", evaluate), ("started", started)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {shown(function)}")
    check_flags(resume=resume)
