"""A grid of views, as the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import check_have_values, check_integers, shown
from ._checks import checked_names, checked_numbers
from .style import SOFT, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_views(
    views: Sequence[Tensor],
    title: str,
    path: str | Path | None = None,
    *,
    names: Sequence[str] = (),
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    images: int = 8,
) -> Figure:
    """Draw the views of a few images: a column for each image, a row for each view.

    Views are drawn at their own sizes: a local view is smaller.

    Args:
        views: (n, C, size, size) each, C 1 or 3, n ≥ 1; row i of all shows the same image.
        title: title of the figure.
        path: file to write; None: no file.
        names: of the views, to the left of their rows; numbers by default.
        mean, std: the normalisation of pixels in [0, 1], per channel or one for all.
        images: maximum number of images to show.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: there are no views, they are not images or differ in number, or
            another argument does not fit.
    """
    _check_views(views)
    default = [f"view {index + 1}" for index in range(len(views))]
    if checked_names("names", names):
        checked_names("names", names, len(views))
    names = names or default
    for name, values in (("mean", mean), ("std", std)):
        if len(checked_numbers(name, values)) not in (1, views[0].shape[1]):
            raise ValueError(f"{name} must be 1 number, or 1 per channel, got {len(values)}")
    check_integers(1, images=images)
    columns = min(images, len(views[0]))
    largest = max(view.shape[-1] for view in views)
    heights = [max(view.shape[-1] / largest, 0.3) for view in views]
    size = (1.05 * columns + 1.0, 1.1 * sum(heights) + 0.6)
    with picture(path, title, size=size) as figure:
        grid = figure.subplots(
            len(views), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for name, view, row in zip(names, views, grid, strict=True):
            pixels = _pixels(view[:columns], mean, std)
            for axes, image in zip(row, pixels.numpy(), strict=True):
                # The same scale for all views: axes of small ones have as many pixels.
                margin = (largest - view.shape[-1]) / 2
                axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set_xlim(-0.5 - margin, view.shape[-1] - 0.5 + margin)
                axes.axis("off")
            row[0].annotate(
                name, (0, 0.5), (-8, 0), "axes fraction", "offset points",
                ha="right", va="center", color=SOFT, annotation_clip=False,
            )  # fmt: skip
    return figure


def _check_views(views: Sequence[Tensor]) -> None:
    if not isinstance(views, list | tuple):
        raise TypeError(f"views must be a list of tensors, got {shown(views)}")
    for view in views:
        if not isinstance(view, Tensor) or view.is_complex():
            raise TypeError(f"views must be a list of real tensors, got {shown(view)} in it")
        check_have_values(views=view)
    shapes = [tuple(view.shape) for view in views]
    if not views or any(len(s) != 4 or s[1] not in (1, 3) or 0 in s for s in shapes):
        raise ValueError(f"views must be (n, C, size, size) with C 1 or 3, got shapes {shapes}")
    if len({len(view) for view in views}) > 1:
        raise ValueError(f"views must be of as many images each, got shapes {shapes}")


def _pixels(view: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(n, size, size, C) in [0, 1]; without C if that is 1.

    Other pixel values, such as those of a standardised tile, are rescaled to [0, 1].
    """
    view = view.detach().float().cpu()
    shift, scale = (torch.tensor(x, dtype=torch.float32)[:, None, None] for x in (mean, std))
    pixels = view * scale + shift
    low, high = pixels.amin((1, 2, 3), True), pixels.amax((1, 2, 3), True)
    is_other = (low < -0.05) | (high > 1.05)
    stretched = (pixels - low) / (high - low).clamp_min(1e-6)
    pixels = torch.where(is_other, stretched, pixels).clamp(0, 1).permute(0, 2, 3, 1)
    return pixels.squeeze(3) if pixels.shape[3] == 1 else pixels
