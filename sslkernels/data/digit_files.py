"""The digits as image files, to be read like any other images."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch

from .._checks import check_choice, check_paths
from ._checks import as_device
from .digits import DigitSplit, load_digits
from .readers import image_folder
from .reading import read_all

SPLITS = ("train", "test")


def write_digits(folder: str | Path) -> Path:
    """Write the digits as PNGs, ``folder/train/LABEL/NUMBER.png`` and ``folder/test/…``.

    Does nothing if ``folder`` exists, which is then complete: it is renamed into place at the end.

    Raises:
        ImportError: PIL is missing.
        OSError: the folder cannot be written.
    """
    check_paths(folder=folder)
    from PIL import Image

    folder = Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for name, split in zip(SPLITS, load_digits(), strict=True):
            for label in range(10):
                (unfinished / name / str(label)).mkdir(parents=True)
            pairs = zip(split.images.numpy(), split.labels.tolist(), strict=True)
            for number, (image, label) in enumerate(pairs):
                path = unfinished / name / str(label) / f"{number:04d}.png"
                Image.fromarray(image).save(path)
        os.rename(unfinished, folder)
    except OSError:
        if not folder.is_dir():  # another process may have been first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def read_digits(
    folder: str | Path, *, by: str = "auto", device: torch.device | str = "cpu"
) -> tuple[DigitSplit, DigitSplit]:
    """Read the files of ``write_digits`` with DALI or PIL: the same tensors as ``load_digits``.

    Args:
        folder: written by :func:`sslkernels.data.write_digits`.
        by: "dali", "pil" or "auto", see :func:`sslkernels.data.image_reader`.
        device: the device of the tensors.
    """
    check_paths(folder=folder)
    check_choice("by", by, ("auto", "dali", "pil"))
    device = as_device(device)
    splits = []
    for name in SPLITS:
        images = image_folder(Path(folder) / name)
        pixels = read_all(images, by=by)[..., 0].contiguous()  # the three channels are equal
        splits.append(DigitSplit(pixels.to(device), images.labels.to(device)))
    train, test = splits
    return train, test
