"""Backbones: images (n, channels, height, width) in, a vector of ``feature_size`` each out."""

from .named import BACKBONES, make_backbone
from .resnet import SmallResNet
from .vit import SmallViT

__all__ = ["BACKBONES", "SmallResNet", "SmallViT", "make_backbone"]
