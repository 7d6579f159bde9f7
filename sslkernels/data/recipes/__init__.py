"""Recipes: the views of each method, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._checks import shown
from .asymmetric import BarlowTwinsViews, BYOLViews, VICRegViews
from .contrastive import MoCoV1Views, MoCoV2Views, MoCoV3Views, SimCLRViews, SimSiamViews
from .draw import draw_parameters
from .multi_crop import (
    DINOv2Views,
    DINOViews,
    LeJEPAViews,
    SimDINOv2Views,
    SimDINOViews,
    SwAVViews,
    VICRegLViews,
)
from .view import View
from .views import Views, views_of

RECIPES = (
    BarlowTwinsViews, BYOLViews, DINOv2Views, DINOViews, LeJEPAViews, MoCoV1Views, MoCoV2Views,
    MoCoV3Views, SimCLRViews, SimDINOv2Views, SimDINOViews, SimSiamViews, SwAVViews, VICRegLViews,
    VICRegViews,
)  # fmt: skip

__all__ = [
    "BYOLViews",
    "BarlowTwinsViews",
    "DINOViews",
    "DINOv2Views",
    "LeJEPAViews",
    "MoCoV1Views",
    "MoCoV2Views",
    "MoCoV3Views",
    "SimCLRViews",
    "SimDINOViews",
    "SimDINOv2Views",
    "SimSiamViews",
    "SwAVViews",
    "VICRegLViews",
    "VICRegViews",
    "View",
    "Views",
    "draw_parameters",
    "load_views",
    "views_of",
]


def load_views(state: dict[str, Any]) -> Views:
    """The recipe with this ``state_dict``. Raises ValueError if its name is unknown."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what a recipe's state_dict returns, got {shown(state)}")
    recipes = {recipe.__name__: recipe for recipe in RECIPES}
    fields = dict(state)
    name = fields.pop("recipe", None)
    if not isinstance(name, str) or name not in recipes:
        raise ValueError(f"state must be of one of {', '.join(recipes)}; got {name!r}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    unknown = [key for key in values if key not in recipes[name].__dataclass_fields__]
    if unknown:
        raise ValueError(f"state must be of {name}, which has no {unknown[0]!r}")
    return recipes[name](**values)
