"""Moved digits: where the ink goes, and that every move is its own."""

import math

import pytest
import torch

from sslkernels.data import MovedDigitViews, load_digits, move_digits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return load_digits()[0].images[::20]  # 200, all classes


def square(count, side=8, top=3, left=15):
    """White squares away from the centre of 28×28 images."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, top : top + side, left : left + side] = 255
    return images


def moments(canvas):
    """Mass (n,), centre (n, 2) and principal spread of (n, 1, h, w)."""
    weights = canvas[:, 0].double()
    mass = weights.sum((1, 2))
    y, x = torch.meshgrid(
        *(torch.arange(size).double() for size in weights.shape[1:]), indexing="ij"
    )
    center = torch.stack([(weights * axis).sum((1, 2)) / mass for axis in (x, y)], 1)
    return mass, center


def test_shape_dtype_and_range(images):
    canvas = move_digits(images, generator())
    assert canvas.shape == (200, 1, 32, 32)
    assert canvas.dtype == torch.float32
    assert canvas.min() >= 0 and 0.9 < canvas.max() <= 1


def test_same_generator_state_same_moves(images):
    assert torch.equal(move_digits(images, generator(3)), move_digits(images, generator(3)))
    assert not torch.equal(move_digits(images, generator(3)), move_digits(images, generator(4)))


def test_global_random_state_is_untouched(images):
    before = torch.get_rng_state()
    first = move_digits(images, generator())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(move_digits(images, generator()), first)


def test_scale_covers_its_range():
    mass, _ = moments(move_digits(square(4000), generator()))
    scale = (mass / 64).sqrt()
    assert scale.min() == pytest.approx(0.70, abs=0.03)
    assert scale.max() == pytest.approx(1.15, abs=0.03)
    assert scale.mean() == pytest.approx(0.925, abs=0.01)


def test_rotation_covers_its_range():
    # A bar keeps the direction of its long axis under scale and shift.
    bars = torch.zeros(4000, 28, 28, dtype=torch.uint8)
    bars[:, 13:15, 4:24] = 255
    canvas = move_digits(bars, generator())
    mass, center = moments(canvas)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    dx, dy = x - center[:, 0, None, None], y - center[:, 1, None, None]
    weights = canvas[:, 0]
    xx, yy, xy = ((weights * product).sum((1, 2)) for product in (dx * dx, dy * dy, dx * dy))
    angle = torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2)
    assert angle.min() == pytest.approx(-23, abs=1)
    assert angle.max() == pytest.approx(23, abs=1)
    assert angle.mean() == pytest.approx(0, abs=1)


def test_ink_stays_on_the_canvas():
    # Uncut ink keeps its mass; a corner of a square would lose a part of it.
    images = square(4000, side=20, top=0, left=8)
    canvas = move_digits(images, generator())
    mass, center = moments(canvas)
    side = mass.sqrt()
    assert side.min() > 0.69 * 20 and side.max() > 1.14 * 20
    reach = side / 2  # a square reaches at least half its side from its centre
    assert (center.min(1).values - reach > -1).all()
    assert (center.max(1).values + reach < 32).all()


def test_digits_keep_their_ink(images):
    canvas = move_digits(images.repeat(10, 1, 1), generator())
    ink = images.repeat(10, 1, 1).double().sum((1, 2)) / 255
    scale = (moments(canvas)[0] / ink).sqrt()
    assert scale.min() > 0.68 and scale.max() < 1.17


def test_place_covers_the_canvas():
    _, center = moments(move_digits(square(4000, side=4), generator()))
    assert (center.min(0).values < 4).all()
    assert (center.max(0).values > 27).all()
    assert (center.mean(0) - 15.5).abs().max() < 0.5


def test_moves_of_equal_images_differ():
    canvas = move_digits(square(50), generator())
    assert len({image.numpy().tobytes() for image in canvas}) == 50


def test_empty_image_stays_empty():
    canvas = move_digits(torch.zeros(3, 28, 28, dtype=torch.uint8), generator())
    assert torch.equal(canvas, torch.zeros(3, 1, 32, 32))


def test_views_show_the_same_digit_moved_independently():
    # The square's side tells which image it is, whatever the move.
    images = torch.cat([square(1, side=side, top=2, left=2) for side in (4, 8, 16)])
    mass_ranges = [(s * s * 0.65**2, s * s * 1.2**2) for s in (4, 8, 16)]
    identified = 0
    for view0, view1 in MovedDigitViews(images, 3, generator()):
        identities = []
        for view in (view0, view1):
            mass = moments(view)[0].tolist()
            identities.append(
                [next(i for i, (a, b) in enumerate(mass_ranges) if a < m < b) for m in mass]
            )
        assert identities[0] == identities[1]
        assert sorted(identities[0]) == [0, 1, 2]
        assert not torch.equal(view0, view1)
        identified += 1
    assert identified == 1


def test_the_two_views_are_uncorrelated():
    ((view0, view1),) = MovedDigitViews(square(2000, side=4), 2000, generator())
    x0, x1 = moments(view0)[1][:, 0], moments(view1)[1][:, 0]
    correlation = torch.corrcoef(torch.stack([x0, x1]))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(2000)


def test_an_epoch_sees_every_digit_once_and_drops_the_rest():
    # Each image has its own brightness, which no move changes.
    images = (
        square(10, side=8) // 255 * (20 * torch.arange(1, 11, dtype=torch.uint8))[:, None, None]
    )
    views = MovedDigitViews(images, 3, generator())
    assert len(views) == 3
    orders = []
    for _ in range(2):
        batches = [view0 for view0, _ in views]
        assert [len(batch) for batch in batches] == [3, 3, 3]
        brightness = (torch.cat(batches).amax((1, 2, 3)) * 255 / 20).round().int().tolist()
        assert len(set(brightness)) == 9
        orders.append(brightness)
    assert orders[0] != orders[1]


def test_epochs_repeat_from_the_same_seed(images):
    first, second = (list(MovedDigitViews(images, 64, generator(5))) for _ in range(2))
    assert len(first) == 3
    for (a0, a1), (b0, b1) in zip(first, second, strict=True):
        assert torch.equal(a0, b0) and torch.equal(a1, b1)


def test_wrong_dtype():
    with pytest.raises(TypeError, match=r"uint8, got torch\.float32"):
        move_digits(torch.zeros(2, 28, 28), generator())
    with pytest.raises(TypeError, match="uint8"):
        MovedDigitViews(torch.zeros(2, 28, 28), 1, generator())


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(n, height, width\).*\(28, 28\)"):
        move_digits(torch.zeros(28, 28, dtype=torch.uint8), generator())


def test_wrong_batch_size():
    with pytest.raises(ValueError, match="at least 1, got 0 and 10"):
        MovedDigitViews(square(10), 0, generator())


def test_a_batch_of_more_than_there_are():
    views = MovedDigitViews(square(10), 23, generator())
    assert len(views) == 1
    ((view0, view1),) = views
    assert view0.shape == view1.shape == (23, 1, 32, 32)
    assert len({view.numpy().tobytes() for view in view0}) == 23  # each moved anew
