"""Backbones map images (n, channels, height, width) to features (n, ``feature_size``)."""

from .feature_maps import check_has_maps, feature_maps
from .named import BACKBONES, feature_size, make_backbone
from .resnet import SmallResNet
from .vit import SmallViT, vit_small

__all__ = [
    "BACKBONES",
    "SmallResNet",
    "SmallViT",
    "check_has_maps",
    "feature_maps",
    "feature_size",
    "make_backbone",
    "vit_small",
]
