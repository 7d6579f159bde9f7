"""Data: real digits that ship with the package, and the views that methods train on."""

from .digits import DigitSplit, load_digits
from .moved_digits import MovedDigitViews, move_digits

__all__ = ["DigitSplit", "MovedDigitViews", "load_digits", "move_digits"]
