"""Data: image readers, the views of each method, and small data sets that ship with packages."""

from .dali import HAS_DALI, DALIReader, DALIViewReader
from .digit_files import read_digits, write_digits
from .digits import DigitSplit, load_digits
from .make_views import make_views
from .moved_digits import MovedDigitViews, move_digits
from .photos import PHOTOGRAPHS, PhotoSplit, load_photos
from .readers import (
    Batch,
    MemoryReader,
    PILReader,
    Reader,
    image_folder,
    image_list,
    webdataset,
)
from .reading import image_reader, view_reader
from .recipes import (
    BarlowTwinsViews,
    BYOLViews,
    DINOv2Views,
    DINOViews,
    LeJEPAViews,
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
from .single_augmentations import plain_digits, plain_view, single_moves, single_views
from .view_batch import FusedViewReader, ViewBatch

__all__ = [
    "HAS_DALI",
    "PHOTOGRAPHS",
    "BYOLViews",
    "BarlowTwinsViews",
    "Batch",
    "DALIReader",
    "DALIViewReader",
    "DINOViews",
    "DINOv2Views",
    "DigitSplit",
    "FusedViewReader",
    "LeJEPAViews",
    "MemoryReader",
    "MoCoV1Views",
    "MoCoV2Views",
    "MoCoV3Views",
    "MovedDigitViews",
    "PILReader",
    "PhotoSplit",
    "Reader",
    "SimCLRViews",
    "SimDINOViews",
    "SimDINOv2Views",
    "SimSiamViews",
    "SwAVViews",
    "VICRegLViews",
    "VICRegViews",
    "View",
    "ViewBatch",
    "Views",
    "draw_parameters",
    "image_folder",
    "image_list",
    "image_reader",
    "load_digits",
    "load_photos",
    "load_views",
    "make_views",
    "move_digits",
    "plain_digits",
    "plain_view",
    "read_digits",
    "single_moves",
    "single_views",
    "view_reader",
    "webdataset",
    "write_digits",
]
