"""Backbones, and their features before pooling."""

import pytest
import torch
from torch import nn

from sslkernels.train.backbones import SmallResNet, SmallViT, check_has_maps, feature_maps


def test_backbone_shapes_and_size():
    backbone = SmallResNet()
    assert backbone(torch.zeros(2, 1, 32, 32)).shape == (2, backbone.feature_size) == (2, 128)
    assert SmallResNet(in_channels=3)(torch.zeros(1, 3, 32, 32)).shape == (1, 128)
    assert 150_000 < sum(p.numel() for p in backbone.parameters()) < 350_000


def test_maps_are_what_is_pooled():
    backbone, images = SmallResNet(width=4).eval(), torch.rand(2, 1, 32, 24)
    maps = feature_maps(backbone, images)
    assert maps.shape == (2, 16, 4, 3)
    torch.testing.assert_close(maps.mean((2, 3)), backbone(images))


class LikeTorchvision(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.avgpool = nn.Conv2d(1, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.avgpool(self.layers(images)).flatten(1)


def test_maps_of_a_network_with_avgpool():
    backbone, images = LikeTorchvision(), torch.rand(2, 1, 8, 8, requires_grad=True)
    maps = feature_maps(backbone, images)
    torch.testing.assert_close(maps, backbone.layers(images))
    maps.sum().backward()
    assert images.grad.abs().sum() > 0
    assert not backbone.avgpool._forward_pre_hooks


def test_a_backbone_without_maps():
    check_has_maps(SmallResNet(width=4), "resnet")
    check_has_maps(LikeTorchvision(), "torchvision:resnet50")
    with pytest.raises(ValueError, match="the method needs maps.*got 'vit'"):
        check_has_maps(SmallViT(width=8), "vit")
