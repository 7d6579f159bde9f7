"""Features of a backbone before global pooling."""

from __future__ import annotations

from torch import Tensor, nn


def feature_maps(backbone: nn.Module, images: Tensor) -> Tensor:
    """Maps (n, ``backbone.feature_size``, rows, columns) of images (n, channels, height, width).

    The result of ``backbone.maps``; for a torchvision network, the input of its ``avgpool``.
    """
    if hasattr(backbone, "maps"):
        return backbone.maps(images)  # type: ignore[operator]
    found: list[Tensor] = []
    hook = backbone.avgpool.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda _, inputs: found.append(inputs[0])
    )
    try:
        backbone(images)
    finally:
        hook.remove()
    return found[0]


def check_has_maps(backbone: nn.Module, name: str) -> None:
    """Raise ValueError unless the backbone of that name has feature maps."""
    if not (hasattr(backbone, "maps") or hasattr(backbone, "avgpool")):
        raise ValueError(
            "the method needs maps: backbone must be resnet, a convolutional one of torchvision, "
            f"or have a method maps(images), got {name!r}"
        )
