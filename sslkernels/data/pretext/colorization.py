"""Colorization: predict the colours of a grey image (Zhang et al. 2016, arXiv:1603.08511)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..._checks import check_have_values, check_positive, check_shares, check_tensors
from ._tiles import check_colors, check_tensor

STEP = 10.0  # side of a bin of the (a, b) plane
NEIGHBORS = 5
SIGMA = 5.0
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.950456, 1.0, 1.088754)  # of RGB_TO_XYZ: D65


def rgb_to_lab(images: Tensor) -> Tensor:
    """CIE L*a*b* (D65) of sRGB images.

    Args:
        images: (N, 3, height, width) uint8, or floats in [0, 1].

    Returns:
        The same shape, float32 (float64 for float64), with L in [0, 100], a and b in about ±110.

    Raises:
        TypeError, ValueError: ``images`` of the wrong dtype or shape.
    """
    check_colors("images", images, 3)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8 or floats, got {images.dtype}")
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    x = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    matrix = torch.tensor(RGB_TO_XYZ, dtype=x.dtype, device=x.device)
    white = torch.tensor(WHITE, dtype=x.dtype, device=x.device)
    x = torch.einsum("ij,njhw->nihw", matrix / white[:, None], x)
    x = torch.where(x > (6 / 29) ** 3, x.clamp_min(1e-6) ** (1 / 3), x * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = x.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@lru_cache(maxsize=1)
def color_bins() -> Tensor:
    """Centres (Q, 2) of the bins of the (a, b) plane that contain an sRGB colour.

    Bins are squares of side 10 centred on multiples of 10. Every (a, b) of a colour inside the RGB
    cube also occurs on its surface, so only the surface is searched. Q is 261. The list published
    by Zhang et al. has 313: some of its bins contain no sRGB colour.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    square = torch.cartesian_prod(levels, levels)
    faces = []
    for axis in range(3):
        for level in (0.0, 1.0):
            face = torch.full((len(square), 3), level, dtype=torch.float64)
            face[:, [i for i in range(3) if i != axis]] = square
            faces.append(face)
    colors = torch.cat(faces).T.reshape(1, 3, -1, 1)
    centers = (rgb_to_lab(colors)[0, 1:, :, 0].T / STEP).round()
    return (centers.unique(dim=0) * STEP).float()


def soft_encode(ab: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """The five bins nearest to each colour, and their Gaussian weights (σ = 5).

    Args:
        ab: (N, 2, height, width), from ``rgb_to_lab``.
        bins: (Q, 2), from ``color_bins``, on the device of ``ab``.

    Returns:
        ``(indices, weights)``: (N, 5, height, width) int64, nearest first, and float32 that sum
        to 1 over the five.

    Raises:
        TypeError, ValueError: arguments of the wrong dtype, shape or device.
    """
    check_colors("ab", ab, 2)
    _check_bins(bins, ab)
    if ab.dtype != bins.dtype:
        raise TypeError(f"ab and bins must be floats of one dtype, got {ab.dtype} and {bins.dtype}")
    colors = ab.movedim(1, -1).reshape(-1, 2)
    nearest = torch.cdist(colors, bins, compute_mode="donot_use_mm_for_euclid_dist")
    distances, indices = nearest.topk(NEIGHBORS, largest=False)
    weights = torch.softmax(-(distances**2) / (2 * SIGMA**2), 1)
    shape = (len(ab), *ab.shape[2:], NEIGHBORS)
    return indices.view(shape).movedim(-1, 1), weights.view(shape).movedim(-1, 1)


def _check_bins(bins: Tensor, beside: Tensor) -> None:
    check_tensors(bins=bins)
    check_have_values(bins=bins)
    if bins.ndim != 2 or bins.shape[1] != 2 or len(bins) < NEIGHBORS:
        raise ValueError(f"bins must be (Q, 2) with Q ≥ {NEIGHBORS}, got {tuple(bins.shape)}")
    if bins.device != beside.device:
        raise ValueError(f"bins must be on {beside.device}, got {bins.device}")


def rebalancing_weights(frequencies: Tensor, uniform: float = 0.5) -> Tensor:
    """Weights of pixels by the bin of their colour, so that rare colours are learned.

    Inversely proportional to a mixture of the colours' frequencies and the uniform distribution,
    with mean 1 over pixels.

    Args:
        frequencies: (Q,), the number of pixels in each bin, or their fractions.
        uniform: λ, the share of the uniform distribution, in (0, 1].

    Returns:
        (Q,) float32.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: no frequency is above 0, one is below, or ``uniform`` is out of range. (On CUDA
            frequencies are not checked, which would synchronise.)
    """
    check_positive(uniform=uniform)
    check_shares(uniform=uniform)
    check_tensor("frequencies", frequencies)
    if frequencies.ndim != 1:
        raise ValueError(f"frequencies must be (Q,), got {tuple(frequencies.shape)}")
    if not frequencies.is_cuda and ((frequencies < 0).any() or not (frequencies > 0).any()):
        raise ValueError("frequencies must be at least 0 and not all 0")
    shares = frequencies.double() / frequencies.double().sum()
    weights = 1 / ((1 - uniform) * shares + uniform / len(shares))
    return (weights / (shares * weights).sum()).float()


def colorization(
    images: Tensor, bins: Tensor, balance: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """A grey input, and the colours to predict from it.

    Args:
        images: (N, 3, height, width) uint8 RGB.
        bins: (Q, 2), from ``color_bins``, on the device of ``images``.
        balance: (Q,), from ``rebalancing_weights``; None: all pixels have the same weight.

    Returns:
        ``(lightness, indices, weights)``: (N, 1, height, width) float32 L − 50, and the result of
        ``soft_encode``, with weights multiplied by the balance of the nearest bin. The loss is the
        sum of −weights · log-probability at ``indices``.

    Raises:
        TypeError: ``images`` is not uint8, or another argument has the wrong type.
        ValueError: an argument of the wrong shape or device.
    """
    check_colors("images", images, 3)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    _check_bins(bins, images)
    if balance is not None:
        check_tensor("balance", balance)
        if balance.shape != bins.shape[:1] or balance.device != bins.device:
            found = tuple(balance.shape)
            raise ValueError(f"balance must be ({len(bins)},) on the device of bins, got {found}")
    lab = rgb_to_lab(images)
    indices, weights = soft_encode(lab[:, 1:], bins)
    if balance is not None:
        weights = weights * balance[indices[:, :1]]
    return lab[:, :1] - 50, indices, weights
