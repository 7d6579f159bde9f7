"""Where images lie: in a folder, in a list of files, or in tar files of WebDataset."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Extent(NamedTuple):
    """A piece of a file: from byte ``start`` on, ``length`` bytes (-1: all)."""

    path: str
    start: int = 0
    length: int = -1


class EncodedImages:
    """Images that are files, or pieces of files, with a label each.

    Made by ``image_folder``, ``image_list`` and ``webdataset``.

    Attributes:
        names: of each image, unique: its path, or that of its tar file and its name in it.
        labels: (n,) int64.
        classes: names of the labels; empty where none are known.
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
        self._extents = extents
        self.names = [extent.path for extent in extents] if names is None else names
        self.labels: Tensor = torch.tensor(labels, dtype=torch.int64)
        self.classes = tuple(classes)
        self.fingerprint = zlib.crc32(
            self.labels.numpy().data, zlib.crc32("\n".join(self.names).encode())
        )

    def __len__(self) -> int:
        return len(self._extents)

    def read(self, index: int) -> bytes:
        """The bytes of one image, as they are stored. Raises OSError where that fails."""
        path, start, length = self._extents[index]
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(length)

    def subset(self, indices: Tensor) -> EncodedImages:
        """The images at ``indices`` (m,), in that order; classes keep their numbers."""
        chosen = indices.tolist()
        return EncodedImages(
            [self._extents[i] for i in chosen],
            self.labels[indices].tolist(),
            names=[self.names[i] for i in chosen],
            classes=self.classes,
        )


def image_folder(folder: str | Path) -> EncodedImages:
    """The images below a folder, sorted by path: a class per subfolder, or all in one folder.

    Classes are numbered in the order of their names. Images that lie in ``folder`` itself all
    have the label 0. Names that begin with a dot are left out; symbolic links are followed.

    Raises:
        ValueError: ``folder`` is no folder, holds no images, holds images beside subfolders of
            them, or a subfolder holds none.
    """
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
    """The images that a text file lists in its order, a line ``path label`` each.

    Paths are relative to the folder of ``file``, and may hold spaces; labels are whole numbers.

    Raises:
        ValueError: ``file`` cannot be read, is empty, or a line of it is not ``path label``.
    """
    file = Path(file)
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a text file of lines 'path label': {error}") from None
    extents, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        try:
            labels.append(int(label))
        except ValueError:
            path = ""
        if not path.strip():
            raise ValueError(f"{file}:{number}: expected 'path label', got {line!r}")
        extents.append(Extent(str(file.parent / path.strip())))
    if not extents:
        raise ValueError(f"no images in {str(file)!r}; expected a line 'path label' for each")
    return EncodedImages(extents, labels)


def webdataset(files: Iterable[str | Path]) -> EncodedImages:
    """The images in tar files of WebDataset, read in place; order is that of the tar files.

    A sample is the members that share a name up to its first dot: an image, and a member
    ``.cls`` with its label as text (0 where there is none). Reads every header once.

    Raises:
        ValueError: a file is no tar file, a label no number, or there is no image.
    """
    extents, labels, names = [], [], []
    for path in map(str, files):
        try:
            with tarfile.open(path, "r:") as archive:
                members = [member for member in archive if member.isfile()]
                classes = {
                    _sample(member): archive.extractfile(member).read()  # type: ignore[union-attr]
                    for member in members
                    if member.name.endswith(".cls")
                }
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"expected an uncompressed tar file, got {path!r}: {error}") from None
        for member in members:
            if not member.name.lower().endswith(SUFFIXES):
                continue
            label = classes.get(_sample(member), b"0")
            if not label.strip().isdigit():
                raise ValueError(
                    f"expected a number as label in {path}/{member.name}, got {label!r}"
                )
            extents.append(Extent(path, member.offset_data, member.size))
            labels.append(int(label))
            names.append(f"{path}/{member.name}")
    if not extents:
        raise ValueError(f"no images in the tar files; expected members {', '.join(SUFFIXES)}")
    return EncodedImages(extents, labels, names=names)


def _sample(member: tarfile.TarInfo) -> str:
    folder, _, name = member.name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


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
