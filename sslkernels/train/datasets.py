"""The images of a run: batches of views to train on, and plain images to evaluate with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..data import (
    HAS_DALI,
    PHOTOGRAPHS,
    DigitSplit,
    FusedViewReader,
    MovedDigitViews,
    View,
    image_folder,
    image_reader,
    load_digits,
    load_photos,
    make_views,
    move_digits,
    plain_digits,
    plain_view,
    read_digits,
    single_moves,
    single_views,
    write_digits,
)
from ..data.readers import EncodedImages, MemoryReader
from .recipe import Recipe

EVALUATION_SEED = 0
EVALUATION_BATCH = 250  # views made at once
DIGITS_FOLDER = Path("runs") / ".digits"  # beside the results, which must be writable anyway
TEST_FOLDERS = ("val", "test")
HELD_OUT = 10  # every tenth image


class Data(Protocol):
    """The interface of a data set for training and evaluation.

    Attributes:
        name: of the data, for display.
        reader: "dali", "pil", or "memory" for data without files.
        channels: of its images.
        classes: names of the labels; empty: no labels to classify.
    """

    name: str
    reader: str
    channels: int
    classes: tuple[str, ...]

    def batches(self, rank: int = 0, world_size: int = 1) -> MovedDigitViews | FusedViewReader:
        """This rank's batches of views of the training images, with a resumable state."""

    def count(self, split: str) -> int:
        """The number of images of "train" or "test"."""

    def evaluation_batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (n, C, S, S) float32 as the network gets them, without augmentation, and labels
        (n,).

        At most ``recipe.evaluation_images`` of "train" or "test", the same at each call.
        """

    def augmented_batches(self, most: int) -> Iterator[dict[str, Tensor]]:
        """Test images (n, C, S, S) float32, at most ``most``: "plain", and with each single
        augmentation, by name. The same at each call."""

    def repeated_views(self, most: int, count: int) -> Iterator[Tensor]:
        """``count`` views of each of at most ``most`` test images, (n, count, C, S, S), drawn like
        the whole views in training. The same at each call."""


def open_data(recipe: Recipe, device: torch.device) -> Data:
    """The data that the recipe names.

    Raises:
        ValueError: there is no such folder, or it has too few images.
        ImportError: the reader is not installed.
    """
    if recipe.data == "digits":
        return Digits(recipe, device)
    if recipe.data == "photos":
        return Photos(recipe, device)
    return Folder(recipe, device)


class Digits:
    """The handwritten digits that ship with the package, moved; see ``MovedDigitViews``."""

    name = "digits"
    channels = 1
    classes = tuple("0123456789")

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe = recipe
        self.reader = _digit_reader(recipe.reader)
        self.train, self.test = (
            load_digits(device)
            if self.reader == "memory"
            else read_digits(write_digits(DIGITS_FOLDER), by=self.reader, device=device)
        )
        generator = torch.Generator(device).manual_seed(EVALUATION_SEED)
        self._evaluation = {
            name: DigitSplit(move_digits(split.images, generator), split.labels)
            for name, split in (("train", self.train), ("test", self.test))
        }

    def batches(self, rank: int = 0, world_size: int = 1) -> MovedDigitViews:
        recipe = self.recipe
        return MovedDigitViews(
            self.train, recipe.batch_size, seed=recipe.seed, whole_views=recipe.global_views,
            local_views=recipe.local_views, rank=rank, world_size=world_size,
        )  # fmt: skip

    def count(self, split: str) -> int:
        return len(self._evaluation[split].labels)

    def evaluation_batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._evaluation[split]
        chosen = _spread(len(labels), self.recipe.evaluation_images).to(labels.device)
        for part in chosen.split(EVALUATION_BATCH):
            yield images[part], labels[part]

    def augmented_batches(self, most: int) -> Iterator[dict[str, Tensor]]:
        images, generator = self._some_tests(most)
        for part in images.split(EVALUATION_BATCH):
            yield {"plain": plain_digits(part), **single_moves(part, generator)}

    def repeated_views(self, most: int, count: int) -> Iterator[Tensor]:
        images, generator = self._some_tests(most)
        for part in images.split(EVALUATION_BATCH):
            yield move_digits(part.repeat_interleave(count, 0), generator).unflatten(0, (-1, count))

    def _some_tests(self, most: int) -> tuple[Tensor, torch.Generator]:
        images = self.test.images
        generator = torch.Generator(images.device).manual_seed(EVALUATION_SEED)
        return images[_spread(len(images), most).to(images.device)], generator


class Pictures:
    """Shared by data sets whose views are described by ``View``."""

    recipe: Recipe

    def evaluation_batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        plain = plain_view(self.recipe.views()[0])
        for views, labels in self._read(split, [plain], self.recipe.evaluation_images):
            yield views[0], labels

    def augmented_batches(self, most: int) -> Iterator[dict[str, Tensor]]:
        view = self.recipe.views()[0]
        views = {"plain": plain_view(view), **single_views(view)}
        for made, _ in self._read("test", list(views.values()), most):
            yield dict(zip(views, made, strict=True))

    def repeated_views(self, most: int, count: int) -> Iterator[Tensor]:
        views = self.recipe.views()[: self.recipe.global_views]
        for made, _ in self._read("test", [views[i % len(views)] for i in range(count)], most):
            yield torch.stack(made, 1)

    def _read(
        self, split: str, views: Sequence[View], most: int
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Views and labels of at most ``most`` images of a split, each image once."""
        raise NotImplementedError


class Photos(Pictures):
    """Patches of photographs that ship with scikit-image; see ``load_photos``."""

    name = "photos"
    reader = "memory"
    channels = 3
    classes: tuple[str, ...] = PHOTOGRAPHS

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.train, self.test = load_photos(device)

    def batches(self, rank: int = 0, world_size: int = 1) -> FusedViewReader:
        recipe = self.recipe
        images, labels = self.train
        reader = MemoryReader(
            images, labels, _share(recipe, world_size), seed=recipe.seed, rank=rank,
            world_size=world_size,
        )  # fmt: skip
        return FusedViewReader(reader, recipe.views(), device=self.device)

    def count(self, split: str) -> int:
        return len({"train": self.train, "test": self.test}[split].labels)

    def _read(
        self, split: str, views: Sequence[View], most: int
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        images, labels = {"train": self.train, "test": self.test}[split]
        generator = torch.Generator(self.device).manual_seed(EVALUATION_SEED)
        batch = max(1, EVALUATION_BATCH // len(views))
        for part in _spread(len(labels), most).to(self.device).split(batch):
            yield make_views(images[part], views, generator)[0], labels[part]


class Folder(Pictures):
    """Images in a folder: two splits in subfolders, or one, of which every tenth is for tests."""

    channels = 3

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        if recipe.reader == "memory":
            raise ValueError("reader must be auto, dali or pil for a folder, got 'memory'")
        self.reader = recipe.reader
        if recipe.reader == "auto":
            self.reader = "dali" if HAS_DALI else "pil"
        self._decode_on = device if self.reader == "dali" else torch.device("cpu")
        folder = Path(recipe.data)
        if not folder.is_dir():
            raise ValueError(f"data must be digits, photos or a folder; there is no {recipe.data}/")
        self.name = folder.resolve().name
        self.train, self.test = _splits(folder)
        self.classes = self.train.classes if len(self.train.classes) > 1 else ()
        if self.classes and self.test.classes != self.train.classes:
            raise ValueError(
                f"training and test images must have the same classes; {folder} has "
                f"{_some(self.train.classes)} and {_some(self.test.classes)}"
            )

    def batches(self, rank: int = 0, world_size: int = 1) -> FusedViewReader:
        recipe = self.recipe
        reader = image_reader(
            self.train, _share(recipe, world_size), by=self.reader, device=self._decode_on,
            upright=recipe.upright, seed=recipe.seed, rank=rank, world_size=world_size,
        )  # fmt: skip
        return FusedViewReader(reader, recipe.views(), device=self.device)

    def count(self, split: str) -> int:
        return len({"train": self.train, "test": self.test}[split])

    def _read(
        self, split: str, views: Sequence[View], most: int
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        images = {"train": self.train, "test": self.test}[split]
        images = images.subset(_spread(len(images), most))
        count = len(images)
        batch = min(count, max(1, EVALUATION_BATCH // len(views)))
        padded = images.subset(torch.arange(-(-count // batch) * batch) % count)
        reader = image_reader(
            padded, batch, by=self.reader, device=self._decode_on, upright=self.recipe.upright
        )
        for made in FusedViewReader(reader, views, device=self.device):
            once = made.indices < count
            yield [view[once] for view in made.views], made.labels[once]


def _splits(folder: Path) -> tuple[EncodedImages, EncodedImages]:
    if (folder / "train").is_dir():
        train = image_folder(folder / "train")
        for name in TEST_FOLDERS:
            if (folder / name).is_dir():
                return train, image_folder(folder / name)
        raise ValueError(f"expected {' or '.join(TEST_FOLDERS)} beside train in {str(folder)!r}")
    images = image_folder(folder)
    if len(images) < HELD_OUT:
        raise ValueError(
            f"{str(folder)!r} holds {len(images)} image{'s' * (len(images) > 1)}; "
            f"training needs {HELD_OUT} at least, better thousands"
        )
    numbers = torch.arange(len(images))
    is_test = numbers % HELD_OUT == HELD_OUT - 1
    return images.subset(numbers[~is_test]), images.subset(numbers[is_test])


def _share(recipe: Recipe, world_size: int) -> int:
    """Images per batch of one rank."""
    if recipe.batch_size % world_size:
        raise ValueError(
            f"batch_size must be a multiple of the {world_size} ranks, got {recipe.batch_size}"
        )
    return recipe.batch_size // world_size


def _spread(count: int, most: int) -> Tensor:
    """Up to ``most`` of ``count`` indices, evenly spaced."""
    kept = min(count, most)
    return torch.arange(kept) * count // kept


def _digit_reader(name: str) -> str:
    if name != "auto":
        return name
    has_pil = find_spec("PIL") is not None  # PIL writes the files
    return ("dali" if HAS_DALI else "pil") if has_pil else "memory"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "none"
