"""Images in tar files of WebDataset, read where they lie."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..._checks import check_paths, shown
from .images import SUFFIXES, EncodedImages, Extent, as_label, numbered

LABEL = "label"  # its key in a member .json


def webdataset(files: str | Path | Iterable[str | Path]) -> EncodedImages:
    """The images in tar files of WebDataset, read in place; order is that of the tar files.

    A sample is the members that share a name up to its first dot: an image, and its label, as text
    in a member ``.cls`` or under "label" in a member ``.json`` (0 where there is none). Labels are
    whole numbers, or all of them names of classes, which are numbered in their order. Where a
    sample has an image such as ``1.jpg``, others of it, such as ``1.seg.png``, are left out. Reads
    every header once.

    Args:
        files: one tar file, or several.

    Raises:
        TypeError: ``files`` are no paths.
        ValueError: a file is no tar file, a label is none, or there is no image.
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    if (
        not isinstance(files, Iterable)
        or isinstance(files, bytes | dict)
        or hasattr(files, "dtype")
    ):
        raise TypeError(f"files must be paths of tar files, got {shown(files)}")
    extents: list[Extent] = []
    labels: list[int | str] = []
    names: list[str] = []
    for path in files:
        check_paths(files=path)
        if not os.fspath(path):
            raise ValueError("expected an uncompressed tar file, got ''")
        members, found = _open(str(path))
        for member in _images(members):
            label = found.get(_sample(member), 0)
            name = f"{path}/{member.name}"
            if labels and type(label) is not type(labels[0]):
                raise ValueError(
                    f"labels must be all numbers or all names, got {labels[0]!r} and {label!r}, "
                    f"the latter of {name}"
                )
            extents.append(Extent(str(path), member.offset_data, member.size))
            labels.append(label)
            names.append(name)
    if not extents:
        raise ValueError(f"no images in the tar files; expected members {', '.join(SUFFIXES)}")
    numbers, classes = numbered(labels)
    return EncodedImages(extents, numbers, names=names, classes=classes)


def _open(path: str) -> tuple[list[tarfile.TarInfo], dict[str, int | str]]:
    """The files in a tar file, and the labels of its samples."""
    labels: dict[str, int | str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile()]
            for member in members:
                kind_of_label = {".cls": _of_text, ".json": _of_json}.get(_suffix(member))
                if kind_of_label is None or (
                    _sample(member) in labels and kind_of_label is _of_json
                ):
                    continue
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                label = kind_of_label(content, f"{path}/{member.name}")
                if label is not None:
                    labels[_sample(member)] = label
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"expected an uncompressed tar file, got {path!r}: {error}") from None
    return members, labels


def _images(members: Iterable[tarfile.TarInfo]) -> list[tarfile.TarInfo]:
    """The image of each sample, or all of one that has none named by a suffix alone."""
    images = [member for member in members if member.name.lower().endswith(SUFFIXES)]
    first: dict[str, tarfile.TarInfo] = {}
    for member in images:
        if _suffix(member) in SUFFIXES:
            first.setdefault(_sample(member), member)
    return [member for member in images if first.get(_sample(member), member) is member]


def _of_text(content: bytes, name: str) -> int | str:
    text = content.decode("utf-8", "replace").strip()
    if not text or "\n" in text:
        raise ValueError(f"expected a number or a name as label in {name}, got {text[:40]!r}")
    return as_label(text)


def _of_json(content: bytes, name: str) -> int | str | None:
    """None where it tells other things, and no label."""
    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise ValueError(f"expected JSON in {name}: {error}") from None
    label = found.get(LABEL) if isinstance(found, dict) else None
    if label is not None and (not isinstance(label, int | str) or isinstance(label, bool)):
        raise ValueError(f"expected a number or a name as label in {name}, got {label!r}")
    return label


def _sample(member: tarfile.TarInfo) -> str:
    folder, _, name = member.name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _suffix(member: tarfile.TarInfo) -> str:
    """All from the first dot of the name on."""
    _, dot, rest = member.name.rpartition("/")[2].partition(".")
    return (dot + rest).lower()
