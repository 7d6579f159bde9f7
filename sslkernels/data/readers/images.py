"""Sources of images: a folder, a list of files, or WebDataset tar files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..._checks import check_paths

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif",
    ".avif",
)  # fmt: skip


class Extent(NamedTuple):
    """A range of a file: ``length`` bytes (-1: all) from byte ``start`` on."""

    path: str
    start: int = 0
    length: int = -1


class EncodedImages:
    """Images in files, or in parts of files, with a label each.

    Made by ``image_folder``, ``image_list`` and ``webdataset``.

    Attributes:
        names: a unique name of each image: its path, or the path of its tar file and its name in
            it.
        labels: (n,) int64.
        classes: names of the labels; empty if unknown.
        fingerprint: a number that changes with the names or the labels.
    """

    def __init__(
        self,
        extents: Sequence[Extent],
        labels: Sequence[int],
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ):
        for label in labels:
            if not -(2**63) <= label < 2**63:
                raise ValueError(f"labels must fit 64 bits, got {label}")
        self._extents = extents
        self.names = [extent.path for extent in extents] if names is None else names
        self.labels: Tensor = torch.tensor(labels, dtype=torch.int64)
        self.classes = tuple(classes)
        self.fingerprint = zlib.crc32(
            self.labels.numpy().data, zlib.crc32(os.fsencode("\n".join(self.names)))
        )

    def __len__(self) -> int:
        return len(self._extents)

    def read(self, index: int) -> bytes:
        """The bytes of one image, as stored. Raises OSError on failure."""
        path, start, length = self._extents[index]
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(length)

    def subset(self, indices: Tensor) -> EncodedImages:
        """The images at ``indices`` (m,), in that order; class numbers do not change."""
        chosen = indices.tolist()
        return EncodedImages(
            [self._extents[i] for i in chosen],
            self.labels[indices].tolist(),
            names=[self.names[i] for i in chosen],
            classes=self.classes,
        )


def image_folder(folder: str | Path) -> EncodedImages:
    """The images below a folder, sorted by path: one class per subfolder, or all in one folder.

    Classes are numbered in the order of their names. Images directly in ``folder`` all have
    label 0. Names that begin with a dot are ignored; symbolic links are followed.

    Raises:
        TypeError: ``folder`` is not a path.
        ValueError: ``folder`` is not a folder, contains no images, contains images beside
            subfolders with images, or a subfolder contains none.
    """
    check_paths(folder=folder)
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder of images, got {str(folder)!r}, which is none")
    subfolders = sorted(x.name for x in os.scandir(folder) if x.is_dir() and x.name[0] != ".")
    flat = _images_in(folder, os.listdir(folder))
    by_class = [_images_below(folder / name) for name in subfolders]
    if not flat and not any(by_class):
        raise ValueError(
            f"no images in {str(folder)!r}; expected files {', '.join(SUFFIXES)} in it, "
            f"or in a subfolder per class"
        )
    if not any(by_class):
        return EncodedImages([Extent(path) for path in flat], [0] * len(flat))
    if flat:
        raise ValueError(
            f"{str(folder)!r} holds images beside subfolders of images, so that their class is "
            f"unknown, {flat[0]!r} for one; move them into a subfolder"
        )
    if not all(by_class):
        empty = subfolders[by_class.index([])]
        raise ValueError(
            f"no images in {str(folder / empty)!r}, which would be a class; remove the folder"
        )
    return EncodedImages(
        [Extent(path) for paths in by_class for path in paths],
        [label for label, paths in enumerate(by_class) for _ in paths],
        classes=subfolders,
    )


def image_list(file: str | Path) -> EncodedImages:
    """The images that a text file lists, in its order, with a line ``path label`` for each.

    Paths are relative to the folder of ``file``, and may contain spaces. Labels are integers in
    all lines, or names of classes in all lines, which are numbered in the order of their names.

    Raises:
        TypeError: ``file`` is not a path.
        ValueError: ``file`` cannot be read, is empty, or has a line that is not ``path label``.
    """
    check_paths(file=file)
    file = Path(file)
    try:  # drop a byte order mark; paths may be any bytes
        lines = file.read_text("utf-8-sig", "surrogateescape").splitlines()
    except OSError as error:
        raise ValueError(f"expected a text file of lines 'path label': {error}") from None
    extents: list[Extent] = []
    labels: list[int | str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, _, text = line.strip().rpartition(" ")
        label = as_label(text)
        is_other = bool(labels) and type(label) is not type(labels[0])
        if not path.strip() or "\0" in line or text.lower().endswith(SUFFIXES) or is_other:
            raise ValueError(f"{file}:{number}: expected 'path label', got {line!r}")
        labels.append(label)
        extents.append(Extent(str(file.parent / path.strip())))
    if not extents:
        raise ValueError(f"no images in {str(file)!r}; expected a line 'path label' for each")
    numbers, classes = numbered(labels)
    return EncodedImages(extents, numbers, classes=classes)


def as_label(text: str) -> int | str:
    """A label as written: an integer, or the name of a class."""
    try:
        return int(text)
    except ValueError:
        return text


def numbered(labels: Sequence[int | str]) -> tuple[list[int], list[str]]:
    """The labels as integers and the class names: numbers unchanged, names by sorted index."""
    names = sorted({label for label in labels if isinstance(label, str)})
    places = {name: place for place, name in enumerate(names)}
    return [places[x] if isinstance(x, str) else int(x) for x in labels], names


def _images_below(folder: Path) -> list[str]:
    paths = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        paths += _images_in(Path(place), names)
    return sorted(paths)


def _images_in(folder: Path, names: Iterable[str]) -> list[str]:
    return sorted(
        str(folder / name) for name in names if name[0] != "." and name.lower().endswith(SUFFIXES)
    )
