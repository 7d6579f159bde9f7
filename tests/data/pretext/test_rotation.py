"""Rotation: the label is the rotation, independent of flips."""

import pytest
import torch

from sslkernels.data.pretext import rotate, rotate_all


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def marked(count):
    """Images with only the top edge bright, whether mirrored or not."""
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    images[:, :, 0] = 255
    return images


def test_labels_say_where_the_top_went():
    turned, labels = rotate(marked(400), generator())
    edges = torch.stack(  # counter-clockwise: top, left, bottom, right
        [turned[:, 0, 0], turned[:, 0, :, 0], turned[:, 0, -1], turned[:, 0, :, -1]], 1
    )
    bright = (edges == 255).all(2)
    assert torch.equal(bright.int().argmax(1), labels)
    assert (bright.sum(1) == 1).all()


def test_labels_and_flips_are_as_frequent_as_they_should_be():
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(4000, 1, 1, 1)
    turned, labels = rotate(images, generator())
    assert (labels.bincount() / 4000 - 0.25).abs().max() < 0.03
    upright = torch.stack(
        [torch.rot90(x, -k, (1, 2)) for x, k in zip(turned, labels.tolist(), strict=True)]
    )
    is_flipped = (upright == images.flip(3)).flatten(1).all(1)
    assert ((upright == images).flatten(1).all(1) | is_flipped).all()
    assert is_flipped.float().mean() == pytest.approx(0.5, abs=0.03)
    never, labels = rotate(images[:50], generator(), flip=0)
    for x, k in zip(never, labels.tolist(), strict=True):
        assert torch.equal(x, torch.rot90(images[0], k, (1, 2)))


def test_the_generator_decides():
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    first, same, other = (rotate(images, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_all_turns():
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    turned = rotate_all(images)
    labels = torch.arange(4).repeat_interleave(5)
    for row, (x, k) in enumerate(zip(turned, labels.tolist(), strict=True)):
        assert torch.equal(x, torch.rot90(images[row % 5], k, (1, 2)))


def test_images_that_are_not_square():
    with pytest.raises(ValueError, match=r"side, side\), got \(2, 3, 8, 9\)"):
        rotate(torch.zeros(2, 3, 8, 9), generator())
