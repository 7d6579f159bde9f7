"""Backbones: images (n, channels, height, width) in, a vector of ``feature_size`` each out."""

from .resnet import SmallResNet
from .vit import SmallViT

BACKBONES = {"resnet": SmallResNet, "vit": SmallViT}

__all__ = ["BACKBONES", "SmallResNet", "SmallViT"]
