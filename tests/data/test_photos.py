"""Patches of photographs: their shape, and disjoint training and test regions."""

import sys

import pytest
import skimage.data
import torch

from sslkernels.data import PHOTOGRAPHS, load_photos
from sslkernels.data.photos import BLOCK, SIDE, _blocks


def test_shapes_and_labels():
    train, test = load_photos()
    for split, each in ((train, 500), (test, 125)):
        assert split.images.shape == (8 * each, SIDE, SIDE, 3) and split.images.dtype == torch.uint8
        assert split.labels.bincount().tolist() == [each] * len(PHOTOGRAPHS)
    assert torch.equal(load_photos()[0].images, train.images)


def test_patches_are_of_their_photograph_and_of_their_splits_region():
    photograph = torch.from_numpy(skimage.data.astronaut())
    windows = photograph.unfold(0, SIDE, 1).unfold(1, SIDE, 1)  # (rows, columns, 3, SIDE, SIDE)
    corners = windows[:, :, :, 0, 0].int()
    regions = _blocks(photograph.numpy())
    pixels = torch.zeros(2, *photograph.shape[:2], dtype=torch.bool)
    for number, split in enumerate(load_photos()):
        blocks = {tuple(corner) for corner in regions[number].tolist()}
        used = set()
        for patch in split.images[split.labels == 0][:40]:
            places = (corners == patch[0, 0].int()).all(2).nonzero().tolist()
            found = [
                (y, x) for y, x in places if torch.equal(windows[y, x], patch.permute(2, 0, 1))
            ]
            assert found
            y, x = found[0]
            pixels[number, y : y + SIDE, x : x + SIDE] = True
            used.add((y // BLOCK * BLOCK, x // BLOCK * BLOCK))
            assert (y + SIDE - 1) // BLOCK == y // BLOCK and (x + SIDE - 1) // BLOCK == x // BLOCK
        assert used == blocks
    assert not (pixels[0] & pixels[1]).any()


def test_photographs_differ_and_have_colours():
    images = load_photos()[0].images.float()
    means = images.view(len(PHOTOGRAPHS), -1, 3).mean(1)
    assert torch.cdist(means, means).fill_diagonal_(99).min() > 3
    assert (images.amax(3) - images.amin(3)).mean() > 20


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"pip install scikit-image.*data=FOLDER"):
        load_photos()
