"""One door to the readers of files: DALI where it is installed, PIL elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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

    Raises:
        ImportError: what ``by`` names is not installed.
        ValueError: ``by`` is none of the three, a number is out of range, or there is no such
            device.
    """
    if by not in ("auto", "dali", "pil"):
        raise ValueError(f"by must be auto, dali or pil, got {by!r}")
    share = {"seed": seed, "rank": rank, "world_size": world_size}
    if by == "dali" or (by == "auto" and HAS_DALI):
        return DALIReader(images, batch_size, device=device, **share)
    if torch.device(device).type != "cpu":
        raise ValueError(f"PIL decodes on the CPU, got device {str(device)!r}; DALI takes others")
    return PILReader(images, batch_size, **share)


def view_reader(
    images: EncodedImages,
    batch_size: int,
    recipe: Views | Sequence[View],
    *,
    augment: str = "fused",
    by: str = "auto",
    device: torch.device | str = "cpu",
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

    Raises:
        ImportError: what is asked for is not installed.
        ValueError: an argument is none of those above, a number is out of range, or there is no
            such device.
    """
    if augment == "fused":
        reader = image_reader(
            images, batch_size, by=by, seed=seed, rank=rank, world_size=world_size,
            device=device if by == "dali" or (by == "auto" and HAS_DALI) else "cpu",
        )  # fmt: skip
        return FusedViewReader(reader, recipe, device=device)
    if augment != "dali" or by == "pil":
        raise ValueError(
            f"augment must be fused or dali, and by not pil for dali; got {augment!r}, {by!r}"
        )
    return DALIViewReader(
        images, batch_size, recipe, device=device, seed=seed, rank=rank, world_size=world_size
    )


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
