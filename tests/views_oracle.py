"""torchvision on PIL images, fed with the parameters of a view; and natural images."""

from __future__ import annotations

from functools import cache

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from bench.peers import torchvision_transforms
from sslkernels.primitives.augment_views.parameters import OPERATIONS, Parameters, pack_order

transforms = torchvision_transforms()
F = transforms.functional
MODES = {
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
}
ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


@cache
def natural_images() -> list[Tensor]:
    """Photographs that ship with scikit-image, (h, w, 3) uint8, of different sizes."""
    images = [
        skimage.data.astronaut()[:400, :500],
        skimage.data.coffee(),
        skimage.data.chelsea(),
        skimage.data.rocket(),
    ]
    return [torch.from_numpy(np.ascontiguousarray(image)) for image in images]


def plain_parameters(image: Tensor, **changes: float) -> Tensor:
    """(13,): the whole image and nothing done to it, but for these."""
    height, width = image.shape[:2]
    values = dict.fromkeys(Parameters._fields, 0.0)
    values |= dict(height=height, width=width, order=pack_order(range(4)), solarize=256)
    values |= dict(brightness=1, contrast=1, saturation=1)
    return torch.tensor(list((values | changes).values()), dtype=torch.float32)


def torchvision_view(
    image: Tensor, parameters: Tensor, size: int, interpolation: str = "bicubic"
) -> Tensor:
    """(C, size, size) uint8: what torchvision and Pillow make of one image (h, w, C)."""
    p = Parameters(*parameters.tolist())
    picture = Image.fromarray(image.squeeze(-1).numpy())
    box = [int(x) for x in (p.top, p.left, p.height, p.width)]
    picture = F.resized_crop(picture, *box, [size, size], MODES[interpolation], antialias=True)
    if p.flip:
        picture = F.hflip(picture)
    channels = len(picture.getbands())
    if p.grayscale == 2:
        picture = F.rgb_to_grayscale(picture, channels)
    for position in range(len(OPERATIONS)):
        name = OPERATIONS[int(p.order) >> 2 * position & 3]
        value = getattr(p, name)
        if value != (0 if name == "hue" else 1):
            picture = ADJUST[name](picture, value)
    if p.grayscale == 1:
        picture = F.rgb_to_grayscale(picture, channels)
    if p.sigma:
        picture = F.gaussian_blur(picture, 23, p.sigma)
    if p.solarize < 256:
        picture = F.solarize(picture, p.solarize)
    return F.pil_to_tensor(picture)


def levels(views: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Values in [0, 1] as whole levels 0 … 255; fails where they are not whole."""
    x = 255 * (views.double() * std + mean)
    assert (x - x.round()).abs().max() < 1e-3, "not whole levels"
    return x.round().long()
