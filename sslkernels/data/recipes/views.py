"""A recipe: the views of one method, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..._checks import check_integers, check_not_negative, shown
from .view import View, check_range

MOST = 10_000  # views of an image


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views that a method makes of one image. Subclasses state them; fields override.

    Raises:
        TypeError, ValueError: a value is of another type, or out of range.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_views"):
                check_integers(0, MOST, **{name: value})
            elif name.endswith("size"):
                check_integers(1, **{name: value})
            elif name.endswith("scale"):
                check_range(name, value)
            else:
                check_not_negative(**{name: value})

    @property
    def views(self) -> tuple[View, ...]:
        """In the order in which a method takes them; global ones first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The recipe in plain numbers and strings, for a checkpoint; see :func:`load_views`."""
        return {"recipe": type(self).__name__, **asdict(self)}


def views_of(recipe: Views | Sequence[View], name: str = "recipe") -> tuple[View, ...]:
    """The views of a recipe, or a sequence of views itself; at least one."""
    if not isinstance(recipe, Views | list | tuple):
        raise TypeError(
            f"{name} must be a recipe such as SimCLRViews, or Views, got {shown(recipe)}"
        )
    views = recipe.views if isinstance(recipe, Views) else tuple(recipe)
    for view in views:
        if not isinstance(view, View):
            raise TypeError(f"{name} must hold Views, got {shown(view)}")
    if not views:
        raise ValueError(f"{name} must have at least one View, got none")
    return views
