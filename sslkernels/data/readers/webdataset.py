"""Images in WebDataset tar files, read in place."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..._checks import check_paths, shown
from .images import SUFFIXES, EncodedImages, Extent, as_label, numbered

LABEL = "label"  # key of the label in a .json member


def webdataset(files: str | Path | Iterable[str | Path]) -> EncodedImages:
    """The images in WebDataset tar files, read in place, in the order of the tar files.

    A sample is the members that share a name up to its first dot: an image, and its label as text
    in a ``.cls`` member or under "label" in a ``.json`` member (0 if there is none). Labels are all
    integers, or all names of classes, which are numbered in the order of their names. If a sample
    has an image such as ``1.jpg``, its other images, such as ``1.seg.png``, are ignored. Every
    header is read once.

    Args:
        files: one tar file, or several.

    Raises:
        TypeError: ``files`` are not paths.
        ValueError: a file is not a tar file, a label is invalid, or there is no image.
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
    """The image of each sample, or all its images if none is named by a suffix alone."""
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
    """The label; None if the content has none."""
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
    """The name from its first dot on."""
    _, dot, rest = member.name.rpartition("/")[2].partition(".")
    return (dot + rest).lower()
