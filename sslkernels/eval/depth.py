"""Features at every depth: of the backbone, and after each layer of the projector."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..metrics import encode
from ..train.methods import Method

CHUNK_SIZE = 4096
BACKBONE = "backbone"


def layers_of(projector: nn.Sequential) -> list[nn.Sequential]:
    """The projector, split before each linear layer but the first.

    A layer is thus a linear layer with its normalisation and activation.
    """
    layers: list[list[nn.Module]] = []
    for module in projector:
        if not layers or isinstance(module, nn.Linear):
            layers.append([])
        layers[-1].append(module)
    return [nn.Sequential(*modules) for modules in layers]


def encode_depths(
    method: Method, batches: Iterable[tuple[Tensor, Tensor]], precision: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Features by depth: "backbone", "projector 1", "projector 2", …

    A projector whose input is not the features of one image, such as that of a task with several
    patches, is left out.

    Args:
        method: trained.
        batches: of images and labels; see :func:`sslkernels.metrics.encode`.
        precision: see :func:`sslkernels.metrics.encode`.

    Returns:
        ``(features, labels)``: (n, d) float32 by depth, and (n,).
    """
    features, labels = encode(method.backbone, batches, precision)
    found = {BACKBONE: features}
    layers = layers_of(method.projector)
    if layers and getattr(layers[0][0], "in_features", None) != features.shape[1]:
        return found, labels
    for number, layer in enumerate(layers, 1):
        chunks = zip(features.split(CHUNK_SIZE), labels.split(CHUNK_SIZE), strict=True)
        features, _ = encode(layer, chunks, precision)
        found[f"projector {number}"] = features
    return found, labels
