from .api import augment_views
from .images import RaggedImages
from .parameters import Parameters, crop_boxes, source_coordinates

__all__ = ["Parameters", "RaggedImages", "augment_views", "crop_boxes", "source_coordinates"]
