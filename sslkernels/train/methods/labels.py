"""Base of methods that classify labels, whether human or derived from the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import View
from ..recipe import Recipe
from .method import Method


@dataclass(frozen=True, kw_only=True)
class LabelRecipe(Recipe):
    """The settings of every method, for methods that need one view of an image."""

    global_views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch:
            raise ValueError(
                "micro_batch must be 0 if the loss does not compare images: a smaller batch_size "
                f"does as well; got {self.micro_batch}"
            )


@dataclass(frozen=True, kw_only=True)
class PretextRecipe(LabelRecipe):
    """The settings of a pretext task, on plain pixels in [0, 1]."""

    def views(self) -> tuple[View, ...]:
        return (plain_pixels(self.image_size),)


class LabelMethod(Method):
    """Scores of labels, (n, labels), and their cross-entropy.

    ``forward`` returns the scores, then the labels (n,).
    """

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores.float(), labels)

    def labels(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The true labels."""
        return labels

    def monitor(  # type: ignore[override]
        self, scores: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        return {"label_accuracy": (scores.argmax(1) == labels).float().mean()}


def plain_pixels(size: int, scale: tuple[float, float] = (0.08, 1.0)) -> View:
    """A view that is cropped, possibly flipped, without colour changes or normalisation."""
    return View(
        size=size, scale=scale, jitter=0.0, grayscale=0.0, blur=0.0, mean=(0.0,) * 3, std=(1.0,) * 3
    )


def generator_of(device: torch.device) -> torch.Generator:
    """Torch's default generator of a device."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


def standardize(patches: Tensor) -> Tensor:
    """Each patch of (…, C, h, w) with mean 0 and standard deviation 1, which removes brightness
    and contrast; a constant patch becomes 0."""
    deviation, mean = torch.std_mean(patches, (-3, -2, -1), correction=0, keepdim=True)
    return (patches - mean) / deviation.clamp_min(1e-3)
