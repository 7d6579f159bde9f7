"""Data: real digits that ship with the package, and the views that methods train on."""

from .digits import DigitSplit, load_digits
from .make_views import make_views
from .moved_digits import MovedDigitViews, move_digits
from .recipes import (
    BarlowTwinsViews,
    BYOLViews,
    DINOv2Views,
    DINOViews,
    MoCoV1Views,
    MoCoV2Views,
    MoCoV3Views,
    SimCLRViews,
    SimDINOv2Views,
    SimDINOViews,
    SimSiamViews,
    SwAVViews,
    VICRegLViews,
    VICRegViews,
    View,
    Views,
    draw_parameters,
    load_views,
)

__all__ = [
    "BYOLViews",
    "BarlowTwinsViews",
    "DINOViews",
    "DINOv2Views",
    "DigitSplit",
    "MoCoV1Views",
    "MoCoV2Views",
    "MoCoV3Views",
    "MovedDigitViews",
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
    "load_digits",
    "load_views",
    "make_views",
    "move_digits",
]
