"""torchvision on PIL images, with the parameters of a view."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from bench.peers import torchvision_transforms
from sslkernels.primitives.augment_views.parameters import OPERATIONS, Parameters

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


def torchvision_view(
    image: Tensor, parameters: Tensor, size: int, interpolation: str = "bicubic"
) -> Tensor:
    """(C, size, size) uint8: the view of one image (h, w, C) by torchvision and Pillow."""
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
