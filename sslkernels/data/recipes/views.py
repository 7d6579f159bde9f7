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
    """The views that a method makes of one image. Subclasses define them; fields are settings.

    Raises:
        TypeError, ValueError: a value has the wrong type, or is out of range.
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
        """The views in the method's order, global views first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The recipe as plain numbers and strings, for a checkpoint; see
        :func:`sslkernels.data.load_views`."""
        return {"recipe": type(self).__name__, **asdict(self)}


def views_of(recipe: Views | Sequence[View], name: str = "recipe") -> tuple[View, ...]:
    """The views of a recipe, or of a sequence of views; at least one."""
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
