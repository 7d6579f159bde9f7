"""Readers: the source of images, their order, and their sharding over ranks."""

from .epoch_order import EpochOrder
from .images import EncodedImages, image_folder, image_list
from .memory import MemoryReader
from .pil import PILReader
from .reader import Batch, Reader
from .webdataset import webdataset

__all__ = [
    "Batch",
    "EncodedImages",
    "EpochOrder",
    "MemoryReader",
    "PILReader",
    "Reader",
    "image_folder",
    "image_list",
    "webdataset",
]
