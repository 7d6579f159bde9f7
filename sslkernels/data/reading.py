"""One door to the readers of files: DALI where it is installed, PIL elsewhere."""

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
    """A reader of ``images`` that yields batches of ``RaggedImages``; both yield the same.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: as for ``Reader``.
        by: "dali", "pil", or "auto": DALI where it is installed, and PIL elsewhere.
        device: where DALI decodes; PIL does so on the CPU alone.
        upright: turn images as EXIF's orientation says; default: as they are stored.

    Raises:
        ImportError: what ``by`` names is not installed.
        TypeError, ValueError: ``by`` is none of the three, there is no such device, or an argument
            is of another type or out of range.
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
    """A reader of views of ``images`` that yields a ``ViewBatch`` at a time.

    Args:
        images: the files.
        batch_size, seed, rank, world_size: as for ``Reader``.
        recipe: such as ``SimCLRViews``, or any views.
        augment: "fused": ``augment_views`` makes the views of what DALI or PIL decodes; "dali":
            DALI makes them.
        by: as for ``image_reader``; not "pil" where DALI makes the views.
        device: where images are decoded, by DALI, and views made. PIL decodes on the CPU.
        upright: as for ``image_reader``.

    Raises:
        ImportError: what is asked for is not installed.
        TypeError, ValueError: an argument is none of those above, of another type or out of range,
            or there is no such device.
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
        ImportError: what ``by`` names is not installed.
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
