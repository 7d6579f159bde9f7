"""Relative patches: the label is the direction, and patches keep their distance."""

import pytest
import torch

from sslkernels.data.pretext import drop_colors, relative_patches
from sslkernels.data.pretext.relative_patch import DIRECTIONS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ramps(count, height=255, width=256):
    """Red is the row and green the column, so that pixels give their position."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, 0 * rows]).byte()
    return image.expand(count, 3, height, width)


def place(patches):
    """Top and left of patches of ``ramps``; each must be a contiguous piece of it."""
    corner = patches[:, :2, 0, 0].int()
    across = torch.arange(patches.shape[-1])
    assert torch.equal(
        patches[:, 0].int(), (corner[:, :1] + across)[:, :, None].expand_as(patches[:, 0])
    )
    assert torch.equal(
        patches[:, 1].int(), (corner[:, 1:] + across)[:, None].expand_as(patches[:, 1])
    )
    return corner


def test_labels_say_where_the_neighbor_lies():
    centers, neighbors, labels = relative_patches(ramps(2000), generator())
    assert centers.shape == neighbors.shape == (2000, 3, 96, 96)
    assert centers.dtype == torch.uint8
    offset = place(neighbors) - place(centers)
    expected = torch.tensor(DIRECTIONS)[labels] * (96 + 48)
    assert (offset - expected).abs().max() == 14  # both jittered by up to 7
    assert (offset - expected).double().mean(0).abs().max() < 0.5
    assert (labels.bincount(minlength=8) / 2000 - 1 / 8).abs().max() < 0.03
    names = {0: (-1, -1), 1: (-1, 0), 3: (0, -1), 7: (1, 1)}
    assert all(DIRECTIONS[label] == direction for label, direction in names.items())


def test_pairs_lie_anywhere():
    corners = torch.cat(
        [place(x) for x in relative_patches(ramps(4000), generator(), patch=32, gap=16)[:2]]
    )
    assert (corners.amin(0) <= 2).all()
    assert (corners.amax(0) >= torch.tensor([255, 256]) - 32 - 2).all()


def test_the_generator_decides():
    images = torch.randint(256, (6, 3, 254, 254), dtype=torch.uint8)
    first, same, other = (relative_patches(images, generator(s))[1] for s in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_any_dtype_and_number_of_channels():
    images = torch.rand(40, 1, 32, 32)
    size = {"patch": 12, "gap": 4, "jitter": 2}
    centers, neighbors, labels = relative_patches(images, generator(), **size)
    assert centers.shape == neighbors.shape == (40, 1, 12, 12) and centers.dtype == torch.float32
    same = relative_patches((images.expand(-1, 3, -1, -1) * 255).byte(), generator(), **size)
    assert torch.equal(labels, same[2])
    assert torch.equal((centers * 255).byte(), same[0][:, :1])


def test_one_channel_is_left():
    patches = torch.randint(50, 200, (300, 3, 16, 16), dtype=torch.uint8)
    dropped = drop_colors(patches, generator())
    deviation, mean = torch.std_mean(dropped, (2, 3), correction=0)
    kept = deviation.argmax(1)
    assert (kept.bincount(minlength=3) / 300 - 1 / 3).abs().max() < 0.12
    rows = torch.arange(300)
    assert (deviation[rows, kept] - 1).abs().max() < 1e-3 and mean.abs().max() < 0.01
    original = patches[rows, kept].flatten(1).double()
    left = dropped[rows, kept].flatten(1).double()
    correlation = [
        torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(original, left, strict=True)
    ]
    assert min(correlation) > 0.9999
    others = torch.ones_like(deviation, dtype=torch.bool)
    others[rows, kept] = False
    assert (deviation[others] - 0.01).abs().max() < 0.003


def test_a_patch_of_one_color_stays_finite():
    assert drop_colors(torch.full((2, 3, 8, 8), 9.0), generator()).isfinite().all()


def test_wrong_input():
    with pytest.raises(ValueError, match=r"at least 254 pixels a side, got \(1, 3, 253, 400\)"):
        relative_patches(torch.zeros(1, 3, 253, 400, dtype=torch.uint8), generator())
    with pytest.raises(ValueError, match=r"\(N, C, height, width\) .* got \(3, 300, 300\)"):
        relative_patches(torch.zeros(3, 300, 300), generator())
    with pytest.raises(ValueError, match="half the gap, got gap 10, jitter 7"):
        relative_patches(ramps(1), generator(), gap=10)
