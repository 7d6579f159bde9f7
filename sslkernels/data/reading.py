"""One door to the readers of files: DALI where it is installed, PIL elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from .dali import HAS_DALI, DALIReader
from .readers import EncodedImages, PILReader, Reader


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
