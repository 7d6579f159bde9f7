"""Digits written as files and read again, and the common function for all readers."""

import pytest
import torch
from pictures import truncate, write_pictures

from sslkernels.data import image_reader, load_digits, read_digits, write_digits
from sslkernels.data.dali import HAS_DALI, DALIReader
from sslkernels.data.readers import PILReader, image_folder
from sslkernels.data.reading import read_all

needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
BY = ["pil", pytest.param("dali", marks=needs_dali)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("runs") / "deep" / "digits")


@pytest.mark.parametrize("by", BY)
def test_digits_come_back_as_they_were(folder, by):
    for read, loaded in zip(read_digits(folder, by=by), load_digits(), strict=True):
        assert torch.equal(read.images, loaded.images) and read.images.is_contiguous()
        assert torch.equal(read.labels, loaded.labels)
        assert read.images.dtype == torch.uint8 and read.labels.dtype == torch.int64


def test_digits_are_written_once_and_whole(folder, tmp_path, monkeypatch):
    before = (folder / "train" / "0" / "0000.png").stat()
    assert write_digits(folder) == folder
    assert (folder / "train" / "0" / "0000.png").stat() == before
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match="disk full"):
        write_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_the_door(tmp_path, monkeypatch):
    write_pictures(tmp_path, classes=1, per_class=4)
    images = image_folder(tmp_path)
    assert isinstance(image_reader(images, 2), DALIReader if HAS_DALI else PILReader)
    assert isinstance(image_reader(images, 2, by="pil"), PILReader)
    monkeypatch.setattr("sslkernels.data.reading.HAS_DALI", False)
    assert isinstance(image_reader(images, 2), PILReader)
    with pytest.raises(ValueError, match="by must be one of auto, dali, pil; got 'opencv'"):
        image_reader(images, 2, by="opencv")
    with pytest.raises(ValueError, match="PIL decodes on the CPU, got device 'cuda'"):
        image_reader(images, 2, by="pil", device="cuda")


@pytest.mark.parametrize("by", BY)
@pytest.mark.filterwarnings("ignore:skipped")
def test_all_images_or_an_error(tmp_path, by):
    paths = write_pictures(tmp_path, classes=1, per_class=3)
    with pytest.raises(ValueError, match="must be of one size, got sizes from"):
        read_all(image_folder(tmp_path), by=by)
    truncate(paths[1])
    with pytest.raises(ValueError, match=f"1 images cannot be read, {paths[1]} for one"):
        read_all(image_folder(tmp_path), by=by)
