"""Views of images by a recipe, together with their parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_choice, check_flags, shown
from ..primitives.augment_views import RaggedImages, augment_views
from ..primitives.augment_views.api import IMPLEMENTATIONS
from ._checks import check_bytes, check_generator
from .recipes import View, Views, draw_parameters, views_of


def make_views(
    images: Tensor | RaggedImages,
    recipe: Views | Sequence[View],
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    impl: str = "auto",
) -> tuple[list[Tensor], Tensor]:
    """Draw the parameters of the views of every image, and make the views.

    Views of the same size, interpolation and normalisation are made together.

    Args:
        images: (N, H, W, C) uint8 with C 1 or 3, or :class:`sslkernels.RaggedImages`.
        recipe: such as :class:`sslkernels.data.SimCLRViews`, or any sequence of views.
        generator: source of all random numbers, on the device of the images.
        dtype, channels_last, impl: see :func:`sslkernels.augment_views`.

    Returns:
        The views in the recipe's order, each (N, C, size, size), and their parameters (V, N, 13),
        from which :func:`sslkernels.source_coordinates` computes their positions. Images with one
        channel are normalised by the recipe's first mean and standard deviation.

    Raises:
        TypeError, ValueError, RuntimeError: see :func:`sslkernels.augment_views`.
    """
    views = views_of(recipe)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {shown(dtype)}")
    check_flags(channels_last=channels_last)
    check_choice("impl", impl, IMPLEMENTATIONS)
    if not isinstance(images, RaggedImages):
        check_bytes("images", images, "N, H, W, C")
    place = images.data if isinstance(images, RaggedImages) else images
    check_generator(generator, place.device)
    if isinstance(images, RaggedImages):
        sizes, channels = images.sizes, images.channels
    else:
        sizes = torch.stack(
            [torch.full((len(images),), x, device=images.device) for x in images.shape[1:3]], 1
        )
        channels = images.shape[-1]
    parameters = draw_parameters(views, sizes, generator)
    groups: dict[tuple, list[int]] = {}
    for index, view in enumerate(views):
        key = view.size, view.interpolation, view.mean[:channels], view.std[:channels]
        groups.setdefault(key, []).append(index)
    made: dict[int, Tensor] = {}
    for (size, interpolation, mean, std), members in groups.items():
        first, last = members[0], members[-1] + 1
        together = last - first == len(members)
        chosen = (
            parameters[first:last] if together else torch.stack([parameters[i] for i in members])
        )
        batch = augment_views(
            images, chosen, size=size, interpolation=interpolation, mean=mean, std=std, dtype=dtype,
            channels_last=channels_last, impl=impl,
        )  # fmt: skip
        for index, view in zip(members, batch, strict=True):
            made[index] = view
    return [made[index] for index in range(len(views))], parameters
