"""Backbones by name."""

import sys
import types

import pytest
import torch
from torch import nn

from bench.peers import torchvision_transforms
from sslkernels.train.backbones import SmallResNet, SmallViT, make_backbone


def test_small_ones():
    assert isinstance(make_backbone("resnet", 1, 8), SmallResNet)
    assert isinstance(make_backbone("vit", 3, 8), SmallViT)
    for name in ("resnet", "vit"):
        backbone = make_backbone(name, 3, 8)
        assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.feature_size) == (2, 32)


@pytest.fixture
def torchvision():
    try:
        torchvision_transforms()  # loads it, also without its operators
    except ImportError:
        pytest.skip("torchvision is not installed here")


@pytest.mark.parametrize("name, size", [("resnet18", 512), ("mobilenet_v3_small", 1024)])
def test_torchvision(torchvision, name, size):
    backbone = make_backbone(f"torchvision:{name}", 3, 8)
    assert backbone.feature_size == size
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, size)


def test_torchvision_takes_colours_and_known_names(torchvision):
    with pytest.raises(ValueError, match="take 3 channels, these images have 1"):
        make_backbone("torchvision:resnet18", 1, 8)
    with pytest.raises(ValueError, match="no network 'resnet19'"):
        make_backbone("torchvision:resnet19", 3, 8)


def test_timm_is_asked_for_features(monkeypatch):
    class Network(nn.Flatten):
        num_features = 12

    def create_model(name, **options):
        assert (name, options.pop("num_classes"), options) == ("some", 0, {"in_chans": 1})
        return Network()

    timm = types.ModuleType("timm")
    timm.create_model, timm.is_model = create_model, {"some"}.__contains__
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert make_backbone("timm:some", 1, 8).feature_size == 12
    with pytest.raises(ValueError, match="timm has no network 'other'"):
        make_backbone("timm:other", 1, 8)


def test_a_function(monkeypatch):
    module = types.ModuleType("mine")
    module.network = lambda: SmallResNet(3, 8)
    module.broken = lambda: nn.Linear(2, 2)
    monkeypatch.setitem(sys.modules, "mine", module)
    assert make_backbone("mine:network", 3, 99).feature_size == 32
    with pytest.raises(
        ValueError, match="must return an nn.Module with a feature_size, got a Linear"
    ):
        make_backbone("mine:broken", 3, 8)
    module.wide = lambda channels, *, width, depth=3: SmallResNet(channels, width)
    with pytest.raises(ValueError, match="mine:wide must take no arguments, .* channels, width;"):
        make_backbone("mine:wide", 3, 8)
    module.default = lambda channels=3, *rest, **more: SmallResNet(channels, 8)
    assert make_backbone("mine:default", 3, 8).feature_size == 32
    for name in (":network", ".mine:network"):
        with pytest.raises(ValueError, match="backbone must name a module before its colon"):
            make_backbone(name, 3, 8)
    with pytest.raises(ValueError, match="module 'mine' has no function 'other'"):
        make_backbone("mine:other", 3, 8)


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="needs timm, which is not installed"):
        make_backbone("timm:resnet18", 3, 8)
    with pytest.raises(ImportError, match="needs nowhere"):
        make_backbone("nowhere:function", 3, 8)
