"""Data: readers of images, real digits that ship with the package, and the views of methods."""

from .dali import HAS_DALI, DALIReader, DALIViewReader
from .digit_files import read_digits, write_digits
from .digits import DigitSplit, load_digits
from .moved_digits import MovedDigitViews, move_digits
from .readers import (
    Batch,
    MemoryReader,
    PILReader,
    Reader,
    image_folder,
    image_list,
    webdataset,
)
from .reading import image_reader

__all__ = [
    "HAS_DALI",
    "Batch",
    "DALIReader",
    "DALIViewReader",
    "DigitSplit",
    "MemoryReader",
    "MovedDigitViews",
    "PILReader",
    "Reader",
    "image_folder",
    "image_list",
    "image_reader",
    "load_digits",
    "move_digits",
    "read_digits",
    "webdataset",
    "write_digits",
]
