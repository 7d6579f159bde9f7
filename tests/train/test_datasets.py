"""Digits and folders of images, as used by runs."""

import numpy as np
import pytest
import torch
from PIL import Image

from sslkernels.data import HAS_DALI, load_digits
from sslkernels.train.datasets import DIGITS_FOLDER, open_data
from sslkernels.train.methods import METHODS
from sslkernels.train.recipe import override

CPU = torch.device("cpu")


def recipe(*overrides, method="simclr"):
    return override(METHODS[method][1], ["batch_size=8", "image_size=16", *overrides])


def write_images(folder, count, *, size=(20, 24), color=None):
    """Pictures of one colour each, with the picture's index as the red channel."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.full((*size, 3), color or (number, 50, 200), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def classes(tmp_path):
    for split, count in (("train", 12), ("val", 5)):
        for name in ("cat", "dog"):
            write_images(tmp_path / "pets" / split / name, count)
    return tmp_path / "pets"


@pytest.mark.parametrize("reader", ["auto", "pil", "dali", "memory"])
def test_every_reader_has_the_same_digits(tmp_path, monkeypatch, reader):
    monkeypatch.chdir(tmp_path)
    if reader == "dali" and not HAS_DALI:
        pytest.skip("DALI is not installed here")
    data = open_data(recipe(f"reader={reader}"), CPU)
    for read, loaded in zip((data.train, data.test), load_digits(), strict=True):
        assert torch.equal(read.images, loaded.images)
        assert torch.equal(read.labels, loaded.labels)
    assert data.reader == {"auto": "dali" if HAS_DALI else "pil"}.get(reader, reader)
    assert DIGITS_FOLDER.exists() == (reader != "memory")
    assert (data.name, data.channels, len(data.classes)) == ("digits", 1, 10)


def test_digits_to_evaluate_with_are_the_same_each_time():
    data = open_data(recipe("reader=memory", "evaluation_images=600"), CPU)
    again = open_data(recipe("reader=memory", "seed=5"), CPU)
    images, labels = (torch.cat(x) for x in zip(*data.evaluation_batches("test"), strict=True))
    assert images.shape == (600, 1, 32, 32)
    assert labels.bincount().tolist() == [60] * 10
    every = torch.cat([x for x, _ in again.evaluation_batches("test")])
    assert len(every) == 1000
    assert torch.equal(images, every[torch.arange(600) * 1000 // 600])


def test_a_folder_of_classes(classes):
    data = open_data(recipe(f"data={classes}"), CPU)
    assert (data.name, data.channels, data.classes) == ("pets", 3, ("cat", "dog"))
    batches = list(data.batches())
    assert len(batches) == 3
    for batch in batches:
        assert [view.shape for view in batch.views] == [(8, 3, 16, 16)] * 2
    assert sorted(torch.cat([b.indices for b in batches]).tolist()) == list(range(24))


def test_a_folders_images_to_evaluate_with(classes):
    data = open_data(recipe(f"data={classes}"), CPU)
    images, labels = (torch.cat(x) for x in zip(*data.evaluation_batches("test"), strict=True))
    assert images.shape == (10, 3, 16, 16) and labels.bincount().tolist() == [5, 5]
    view = data.recipe.views()[0]
    red = images[:, 0].mean((1, 2)) * view.std[0] + view.mean[0]
    assert sorted((red * 255).round().int().tolist()) == sorted([*range(5)] * 2)
    assert images[:, 0].std((1, 2)).max() < 1e-5


def test_ranks_have_different_images(classes):
    data = open_data(recipe(f"data={classes}"), CPU)
    shares = [[b.indices for b in data.batches(rank, 2)] for rank in range(2)]
    assert [len(x) for x in shares] == [3, 3] and shares[0][0].shape == (4,)
    assert len(torch.cat(shares[0] + shares[1]).unique()) == 24
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 ranks, got 8"):
        data.batches(0, 3)


def test_without_test_folder_every_tenth_is_one(tmp_path):
    write_images(tmp_path / "flat", 40)
    data = open_data(recipe(f"data={tmp_path}/flat"), CPU)
    assert data.classes == ()
    assert [name[-7:-4] for name in data.test.names] == ["009", "019", "029", "039"]
    assert not set(data.test.names) & set(data.train.names)
    assert len(data.train) == 36


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "there is no .*/images/"),
        (lambda folder: write_images(folder, 1), "holds 1 image; training needs 10 at least"),
        (lambda folder: folder.mkdir(), "no images in"),
        (lambda folder: write_images(folder / "train", 20), "expected val or test beside train"),
    ],
)
def test_folders_that_will_not_do(tmp_path, make, message):
    make(tmp_path / "images")
    with pytest.raises(ValueError, match=message):
        open_data(recipe(f"data={tmp_path}/images"), CPU)


def test_classes_must_agree(classes):
    write_images(classes / "val" / "cow", 3)
    with pytest.raises(ValueError, match="same classes; .* has cat, dog and cat, cow, dog"):
        open_data(recipe(f"data={classes}"), CPU)


def test_a_folder_is_not_read_from_memory(classes):
    with pytest.raises(ValueError, match="reader must be auto, dali or pil for a folder"):
        open_data(recipe(f"data={classes}", "reader=memory"), CPU)


@pytest.mark.parametrize("reader", ["pil", *(["dali"] if HAS_DALI else [])])
def test_images_of_a_folder_are_upright_if_asked_for(tmp_path, reader):
    write_images(tmp_path, 20)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    for path in tmp_path.iterdir():
        Image.fromarray(pixels).save(path, exif=exif)
    for upright in ("false", "true"):
        data = open_data(recipe(f"data={tmp_path}", f"reader={reader}", f"upright={upright}"), CPU)
        images, _ = next(iter(data.evaluation_batches("test")))
        top, bottom = images[:, :, :6].mean(), images[:, :, -6:].mean()
        assert (bottom > top) == (upright == "true")
        reader_of = data.batches().reader
        assert reader_of.upright == (upright == "true")
