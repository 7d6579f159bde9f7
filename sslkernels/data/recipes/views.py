"""A recipe: the views of one method, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .view import View


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views that a method makes of one image. Subclasses state them; fields override."""

    @property
    def views(self) -> tuple[View, ...]:
        """In the order in which a method takes them; global ones first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The recipe in plain numbers and strings, for a checkpoint; see :func:`load_views`."""
        return {"recipe": type(self).__name__, **asdict(self)}
