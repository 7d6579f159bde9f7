"""The definition in plain torch: the steps of Pillow and torchvision, in whole levels 0 … 255."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .images import RaggedImages
from .parameters import OPERATIONS, Parameters

RADIUS = 11  # maximum of the blur: 23 taps
FRACTION = 1 << 22  # Pillow's weights are integer multiples of 1 / FRACTION


def augment_views_reference(
    images: RaggedImages,
    parameters: Tensor,
    size: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """(V, N, C, size, size) float32 for parameters (V, N, 13). Crops are resized one by one."""
    views = [
        torch.stack([_resized(images, n, row, size, interpolation) for n, row in enumerate(rows)])
        for rows in parameters[..., :4].long().tolist()
    ]
    p = Parameters(*(column[..., None, None, None] for column in Parameters.of(parameters)))
    x = torch.stack(views)
    x = torch.where(p.flip > 0, x.flip(-1), x)
    if images.channels == 3:
        x = torch.where(p.grayscale == 2, gray(x).expand_as(x), x)
    x = jitter(x, p)
    if images.channels == 3:
        x = torch.where(p.grayscale == 1, gray(x).expand_as(x), x)
    x = torch.where(p.sigma > 0, blur(x, p.sigma), x)
    x = torch.where(x >= p.solarize, 255 - x, x)
    center, scale = (torch.tensor(v, device=x.device)[:, None, None] for v in (mean, std))
    return (x / 255 - center) / scale


def _resized(
    images: RaggedImages, n: int, crop: Sequence[int], size: int, interpolation: str
) -> Tensor:
    """(C, size, size) float32: along one axis, then the other, rounded to levels after each."""
    top, left, height, width = crop
    whole = [*images.sizes[n].tolist(), images.channels]
    start = int(images.offsets[n])
    image = images.data[start : start + whole[0] * whole[1] * whole[2]].view(whole)
    x = image[top : top + height, left : left + width].permute(2, 0, 1).double()
    rows, columns = (
        resize_weights(length, size, interpolation, x.device) for length in (height, width)
    )
    if columns_first(height, width, size):
        return _whole(_whole(rows @ x) @ columns.T).float()
    return _whole(rows @ _whole(x @ columns.T)).float()


def columns_first(height: int, width: int, size: int) -> bool:
    """Whether Pillow sums along columns before rows, as it does since version 13."""
    return height > size and height - size > 2 * (width - size)


def _whole(x: Tensor) -> Tensor:
    return ((x + FRACTION / 2) / FRACTION).floor().clamp(0, 255)


def resize_weights(length: int, size: int, interpolation: str, device: torch.device) -> Tensor:
    """Pillow's antialiasing filter from ``length`` to ``size`` pixels: (size, length) float64.

    In integer multiples of 2⁻²².
    """
    step = length / size
    scale = max(step, 1.0)
    reach = scale * {"bilinear": 1.0, "bicubic": 2.0}[interpolation]
    center = (torch.arange(size, dtype=torch.float64, device=device)[:, None] + 0.5) * step
    at = torch.arange(length, dtype=torch.float64, device=device)
    first, last = (center - reach + 0.5).trunc(), (center + reach + 0.5).trunc()
    distance = ((at - center + 0.5) / scale).abs()
    weights = torch.where((at >= first) & (at < last), FILTERS[interpolation](distance), 0.0)
    weights = FRACTION * weights / weights.sum(1, keepdim=True)
    return (weights + torch.copysign(torch.full_like(weights, 0.5), weights)).trunc()


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp_min(0)


def _bicubic(x: Tensor) -> Tensor:
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic}


def gray(x: Tensor) -> Tensor:
    """(..., 1, h, w) of (..., C, h, w): Pillow's luma."""
    if x.shape[-3] == 1:
        return x
    red, green, blue = x.int().unbind(-3)
    return (((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(x)).unsqueeze(-3)


def jitter(x: Tensor, p: Parameters) -> Tensor:
    """Brightness, contrast, saturation and hue of (..., C, h, w), in the order of each image."""
    for position in range(len(OPERATIONS)):
        operation = p.operations(position)
        brightness = blend(torch.zeros_like(x), x, p.brightness)
        contrast = blend(gray_mean(x), x, p.contrast)
        saturation = blend(gray(x), x, p.saturation)
        hue = torch.where(p.hue != 0, shift_hue(x, p.hue), x)
        for index, changed in enumerate((brightness, contrast, saturation, hue)):
            x = torch.where(operation == index, changed, x)
    return x


def gray_mean(x: Tensor) -> Tensor:
    """The rounded mean of an image's grey levels."""
    return (gray(x).double().mean((-2, -1), keepdim=True) + 0.5).floor().to(x)


def blend(other: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """Pillow's blend: from ``other`` to x and beyond, rounded towards zero."""
    return (other + factor * (x - other)).clamp(0, 255).trunc()


def shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue in 255ths of a turn in Pillow's integer HSV."""
    if x.shape[-3] == 1:
        return x
    hue, saturation, value = _hsv(*x.unbind(-3))
    shift = (turns.squeeze(-3).double() * 255).trunc()
    return _rgb(torch.remainder(hue + shift, 256).to(x), saturation, value)


def _hsv(red: Tensor, green: Tensor, blue: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value = torch.maximum(red, torch.maximum(green, blue))
    chroma = value - torch.minimum(red, torch.minimum(green, blue))
    r, g, b = ((value - x) / chroma.clamp_min(1) for x in (red, green, blue))
    start = torch.where(red == value, 0.0, torch.where(green == value, 2.0, 4.0))
    more = torch.where(red == value, b, torch.where(green == value, r, g))
    less = torch.where(red == value, g, torch.where(green == value, b, r))
    # start + more - less, rounded once: one of the two is 1 where colours differ
    sixths = torch.where(less == 1, start - 1 + more, start + 1 - less)
    hue = sixths / 6 + (sixths < 0).to(sixths)
    saturation = (chroma / value.clamp_min(1) * 255).floor()
    return torch.where(chroma > 0, (hue * 255).floor(), 0.0), saturation, value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    sixth = (2 * hue / 85).floor()
    rest = 2 * hue - 85 * sixth  # in 85ths
    low, falling, rising = (
        value - (value * saturation * x / 21675 + 0.5).floor()
        for x in (torch.full_like(rest, 85.0), rest, 85 - rest)
    )
    sixth = sixth.long() % 6
    red, green, blue = (
        torch.stack(choices).gather(0, sixth[None]).squeeze(0)
        for choices in (
            (value, falling, low, low, rising, value),
            (rising, value, value, falling, low, low),
            (low, low, rising, value, value, falling),
        )
    )
    return torch.stack([red, green, blue], -3)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian of 23 taps, or as many as the image allows on both sides, with reflected edges."""
    size = x.shape[-1]
    radius = min(RADIUS, size - 1)
    taps = torch.arange(-radius, radius + 1, device=x.device)
    weights = torch.exp(-0.5 * (taps / sigma.double().clamp_min(1e-6)) ** 2)
    weights = weights / weights.sum(-1, keepdim=True)
    at = (torch.arange(size, device=x.device)[:, None] + taps).abs()
    at = torch.where(at >= size, 2 * (size - 1) - at, at)  # (size, taps)
    wide = (x.double()[..., at] * weights[..., None, :]).sum(-1)
    tall = (wide[..., at, :] * weights[..., :, None]).sum(-2)
    return tall.round().to(x)
