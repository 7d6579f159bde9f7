"""Backbones by name: this package's, torchvision's, timm's, or from a function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from typing import cast

from torch import nn

from ..._checks import shown
from .resnet import SmallResNet
from .vit import SmallViT

BACKBONES = {"resnet": SmallResNet, "vit": SmallViT}


def make_backbone(name: str, channels: int, width: int) -> nn.Module:
    """Make a backbone; other libraries are imported only when needed.

    Args:
        name: "resnet" or "vit", the small ones of this package; "torchvision:resnet50" and the
            like, "timm:vit_small_patch16_224" and the like, untrained and without their
            classifier; or "module:function", a function without arguments.
        channels: of the images; torchvision's networks need 3, a function may ignore it.
        width: of a small backbone.

    Returns:
        A module that maps (n, channels, height, width) to (n, ``feature_size``).

    Raises:
        ValueError: there is no such network, it needs another number of channels, the function
            takes arguments, or its result has no ``feature_size``.
        ImportError: the library is not installed.
    """
    if name in BACKBONES:
        return BACKBONES[name](in_channels=channels, width=width)
    source, _, rest = name.partition(":")
    if source == "torchvision":
        return _torchvision(rest, channels)
    if source == "timm":
        return _timm(rest, channels)
    return _function(source, rest)


def feature_size(backbone: nn.Module) -> int:
    """The number of features of a backbone's output."""
    return cast(int, backbone.feature_size)


def _torchvision(name: str, channels: int) -> nn.Module:
    models = _import("torchvision.models", "torchvision")
    if channels != 3:
        raise ValueError(f"torchvision's networks take 3 channels, these images have {channels}")
    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no network {name!r}; torchvision.models lists them")
    network = models.get_model(name, weights=None)
    # The classifier is the last linear layer, whatever its name.
    path, last = [(k, m) for k, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    network.set_submodule(path, nn.Identity())
    network.feature_size = last.in_features
    return network


def _timm(name: str, channels: int) -> nn.Module:
    timm = _import("timm", "timm")
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; timm.list_models() lists them")
    options = {"dynamic_img_size": True} if name.startswith(("vit", "deit")) else {}
    network = timm.create_model(name, num_classes=0, in_chans=channels, **options)
    network.feature_size = network.num_features
    return network


def _function(module: str, function: str) -> nn.Module:
    make = getattr(_import(module, module), function, None)
    if not callable(make):
        raise ValueError(f"module {module!r} has no function {function!r}")
    needed = _arguments(make)
    if needed:
        raise ValueError(
            f"{module}:{function} must take no arguments, it takes {', '.join(needed)}; "
            f"name a function of yours that gives them"
        )
    network = make()
    if not (isinstance(network, nn.Module) and hasattr(network, "feature_size")):
        raise ValueError(
            f"{module}:{function} must return an nn.Module with a feature_size, "
            f"got {shown(network)}"
        )
    return network


def _arguments(function: Callable) -> list[str]:
    """The names of its required arguments."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # unknown for some built-in functions
        return []
    optional = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _import(module: str, package: str):
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"the backbone needs {package}, which is not installed") from error
    except (TypeError, ValueError) as error:  # such as "" and ".name"
        raise ValueError(f"backbone must name a module before its colon: {error}") from None
    except RuntimeError as error:  # such as a torchvision that was built for another torch
        raise ImportError(f"the backbone needs {package}, which does not load: {error}") from error
