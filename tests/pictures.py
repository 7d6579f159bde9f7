"""Natural-looking pictures: smooth blobs over many scales, in colour, of different sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def picture(seed: int, height: int | None = None, width: int | None = None) -> Tensor:
    """(height, width, 3) uint8; sides between 60 and 120 unless given."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randint(60, 121, (2,), generator=generator).tolist()
    size = (height or sides[0], width or sides[1])
    octaves = [
        F.interpolate(torch.rand(1, 3, cells, cells, generator=generator), size, mode="bicubic")
        / cells**0.7
        for cells in (2, 4, 8, 16, 32)
    ]
    image = torch.stack(octaves).sum(0)[0]
    image = (image - image.amin()) / (image.amax() - image.amin())
    return (image * 255).round().byte().permute(1, 2, 0).contiguous()


def write_pictures(
    folder: Path, classes: int = 3, per_class: int = 10, suffix: str = ".jpg", **size: int
) -> list[Path]:
    """A folder per class, of JPEGs of quality 90; paths in the order of ``image_folder``."""
    paths = []
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(per_class):
            path = folder / f"class{label}" / f"{number:03d}{suffix}"
            pixels = picture(label * per_class + number, **size).numpy()
            Image.fromarray(pixels).save(path, quality=90)
            paths.append(path)
    return paths


def truncate(path: Path) -> None:
    """Cut the second half of a file off."""
    encoded = path.read_bytes()
    path.write_bytes(encoded[: len(encoded) // 2])


def decoded(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))
