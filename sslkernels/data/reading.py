"""The common functions for readers of files: DALI if installed, otherwise PIL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_choice
from ._checks import as_device
from .dali import HAS_DALI, DALIReader, DALIViewReader
from .readers import EncodedImages, PILReader, Reader
from .recipes import View, Views
from .view_batch import FusedViewReader


def image_reader(
    images: EncodedImages,
    batch_size: int,
    *,
    by: str = "auto",
    device: torch.device | str = "cpu",
    upright: bool = False,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Reader:
    """A reader of ``images`` that yields batches of ``RaggedImages``, the same with DALI or PIL.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.
        by: "dali", "pil", or "auto": DALI if installed, otherwise PIL.
        device: the device on which DALI decodes; PIL supports the CPU only.
        upright: apply EXIF's orientation; False: images as stored.

    Raises:
        ImportError: the decoder that ``by`` names is not installed.
        TypeError, ValueError: ``by`` is none of the three, there is no such device, or an argument
            has the wrong type or is out of range.
    """
    check_choice("by", by, ("auto", "dali", "pil"))
    share = {"seed": seed, "rank": rank, "world_size": world_size}
    if by == "dali" or (by == "auto" and HAS_DALI):
        return DALIReader(images, batch_size, device=device, upright=upright, **share)
    if as_device(device).type != "cpu":
        raise ValueError(f"PIL decodes on the CPU, got device {str(device)!r}; DALI takes others")
    return PILReader(images, batch_size, upright=upright, **share)


def view_reader(
    images: EncodedImages,
    batch_size: int,
    recipe: Views | Sequence[View],
    *,
    augment: str = "fused",
    by: str = "auto",
    device: torch.device | str = "cpu",
    upright: bool = False,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> FusedViewReader | DALIViewReader:
    """A reader of views of ``images`` that yields :class:`sslkernels.data.ViewBatch` objects.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: see :class:`sslkernels.data.Reader`.
        recipe: such as ``SimCLRViews``, or any sequence of views.
        augment: "fused": :func:`sslkernels.augment_views` makes the views of images decoded by DALI
            or PIL; "dali": DALI makes them.
        by: see :func:`sslkernels.data.image_reader`; not "pil" if DALI makes the views.
        device: the device on which DALI decodes and views are made. PIL decodes on the CPU.
        upright: see :func:`sslkernels.data.image_reader`.

    Raises:
        ImportError: a package that is asked for is not installed.
        TypeError, ValueError: an argument is none of the above, has the wrong type or is out of
            range, or there is no such device.
    """
    check_choice("augment", augment, ("fused", "dali"))
    check_choice("by", by, ("auto", "dali", "pil"))
    if augment == "fused":
        reader = image_reader(
            images, batch_size, by=by, upright=upright, seed=seed, rank=rank, world_size=world_size,
            device=device if by == "dali" or (by == "auto" and HAS_DALI) else "cpu",
        )  # fmt: skip
        return FusedViewReader(reader, recipe, device=device)
    if by == "pil":
        raise ValueError("by must be auto or dali where DALI makes the views, got 'pil'")
    return DALIViewReader(
        images, batch_size, recipe, device=device, upright=upright, seed=seed, rank=rank,
        world_size=world_size,
    )  # fmt: skip


def read_all(images: EncodedImages, *, by: str = "auto") -> Tensor:
    """Read small images of one size, each once, in the order of ``images``.

    Returns:
        (n, height, width, 3) uint8 RGB on the CPU.

    Raises:
        ImportError: the decoder that ``by`` names is not installed.
        ValueError: images differ in size, or some cannot be read; the message names one.
    """
    reader = image_reader(images, len(images), by=by)
    ((ragged, _, indices),) = reader
    if reader.skipped:
        raise ValueError(
            f"{len(reader.skipped)} images cannot be read, {reader.skipped[0]} for one"
        )
    sizes = ragged.sizes.unique(dim=0).tolist()
    if len(sizes) > 1:
        raise ValueError(f"images must be of one size, got sizes from {sizes[0]} to {sizes[-1]}")
    pixels = torch.empty(len(images), *sizes[0], ragged.channels, dtype=torch.uint8)
    pixels[indices] = ragged.data.view(pixels.shape)
    return pixels
