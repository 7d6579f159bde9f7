"""One augmentation at a time: what it changes, and what it does not."""

import pytest
import torch
from pictures import picture

from sslkernels.data import (
    SimCLRViews,
    View,
    load_digits,
    make_views,
    plain_digits,
    plain_view,
    single_moves,
    single_views,
)


@pytest.fixture(scope="module")
def digits():
    return load_digits()[1].images[::50]  # two of each class


def moments(canvases):
    """Position of the ink (n, 2), and its mean squared distance from there (n,)."""
    side = canvases.shape[-1]
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="ij")).flatten(1)
    ink = canvases.flatten(1) / canvases.flatten(1).sum(1, keepdim=True)
    center = ink @ grid.T
    spread = (ink[:, None] * (grid[None] - center[..., None]) ** 2).sum((1, 2))
    return center, spread


def test_plain_digits_lie_in_the_middle(digits):
    plain = plain_digits(digits)
    assert plain.shape == (20, 1, 32, 32) and torch.equal(plain, plain_digits(digits))
    ink = plain > 0
    for dim in (2, 3):
        line = ink.any(dim).squeeze(1).int()
        first, last = line.argmax(1), 31 - line.flip(1).argmax(1)
        assert ((first + last - 31).abs() <= 2).all()


def test_each_move_moves_one_thing(digits):
    moved = single_moves(digits, torch.Generator().manual_seed(0))
    assert list(moved) == ["scale", "rotation", "shift"]
    center, spread = moments(plain_digits(digits))
    found = {name: moments(canvases) for name, canvases in moved.items()}
    scale = (found["scale"][1] / spread).sqrt()
    # 0.7 to 1.15 of the digit, whose plain scale is 0.925
    assert scale.min() < 0.85 and scale.max() > 1.15
    assert scale.min() > 0.7 / 0.925 - 0.03 and scale.max() < 1.15 / 0.925 + 0.03
    for name in ("rotation", "shift"):
        assert (found[name][1] / spread).sqrt() == pytest.approx(torch.ones(20), abs=0.04)
    assert (found["shift"][0] - center).abs().amax(0).min() > 3
    for name in ("scale", "rotation"):
        assert (found[name][0] - center).abs().max() < 2
    assert (moved["rotation"] - plain_digits(digits)).abs().flatten(1).amax(1).min() > 0.05
    again = single_moves(digits, torch.Generator().manual_seed(0))
    assert all(torch.equal(moved[name], again[name]) for name in moved)


def views_of(view):
    images = torch.stack([picture(seed, 60, 60) for seed in range(3)])
    singles = {"plain": plain_view(view), **single_views(view)}
    made, parameters = make_views(images, list(singles.values()), torch.Generator().manual_seed(0))
    return dict(zip(singles, made, strict=True)), dict(zip(singles, parameters, strict=True))


def test_each_view_differs_by_one_augmentation():
    made, parameters = views_of(SimCLRViews(size=24).views[0])
    assert list(made) == ["plain", "crop", "flip", "colour", "grey", "blur", "solarise"]
    plain = parameters["plain"]
    columns = {
        "crop": {0, 1, 2, 3},
        "flip": {4},
        "colour": {5, 6, 7, 8, 9},
        "grey": {10},
        "blur": {11},
        "solarise": {12},
    }
    for name, expected in columns.items():
        changed = (parameters[name] != plain).any(0).nonzero()[:, 0].tolist()
        changed = set(changed) - {5}  # the order is drawn even without jitter
        assert changed and changed <= expected, name
        assert not torch.allclose(made[name], made["plain"]), name
    assert torch.equal(made["flip"], made["plain"].flip(3))


def test_colours_that_do_not_change_are_left_out():
    view = View(size=24, brightness=0, contrast=0, saturation=0, hue=0, flip=0, blur=0, grayscale=0)
    assert "colour" not in single_views(view) and "flip" in single_views(view)
