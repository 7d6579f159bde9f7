"""Moved digits: the position of the ink, and the independence of moves."""

import math

import pytest
import torch

from sslkernels.data import DigitSplit, MovedDigitViews, load_digits, move_digits


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


def digits(images):
    """Images with their indices as labels."""
    return DigitSplit(images, torch.arange(len(images)))


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
    # The square's side identifies the image, whatever the move.
    images = torch.cat([square(1, side=side, top=2, left=2) for side in (4, 8, 16)])
    mass_ranges = [(s * s * 0.65**2, s * s * 1.2**2) for s in (4, 8, 16)]
    identified = 0
    for batch in MovedDigitViews(digits(images), 3):
        view0, view1 = batch.views
        identities = []
        for view in (view0, view1):
            mass = moments(view)[0].tolist()
            identities.append(
                [next(i for i, (a, b) in enumerate(mass_ranges) if a < m < b) for m in mass]
            )
        assert identities[0] == identities[1] == batch.labels.tolist() == batch.indices.tolist()
        assert sorted(identities[0]) == [0, 1, 2]
        assert not torch.equal(view0, view1)
        identified += 1
    assert identified == 1


def test_the_two_views_are_uncorrelated():
    ((view0, view1), *_) = next(iter(MovedDigitViews(digits(square(2000, side=4)), 2000)))
    x0, x1 = moments(view0)[1][:, 0], moments(view1)[1][:, 0]
    correlation = torch.corrcoef(torch.stack([x0, x1]))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(2000)


def test_an_epoch_sees_every_digit_once_and_drops_the_rest():
    # Each image has its own brightness, which moves do not change.
    images = (
        square(10, side=8) // 255 * (20 * torch.arange(1, 11, dtype=torch.uint8))[:, None, None]
    )
    views = MovedDigitViews(digits(images), 3)
    assert len(views) == 3
    orders = []
    for _ in range(2):
        batches = [batch.views[0] for batch in views]
        assert [len(batch) for batch in batches] == [3, 3, 3]
        brightness = (torch.cat(batches).amax((1, 2, 3)) * 255 / 20).round().int().tolist()
        assert len(set(brightness)) == 9
        orders.append(brightness)
    assert orders[0] != orders[1]


def same(first, second):
    """Whether two batches are equal, bit for bit."""
    pairs = [
        *zip(first.views, second.views, strict=True),
        *zip(first[1:4], second[1:4], strict=True),
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def test_epochs_repeat_from_the_same_seed(images):
    first, second, other = (
        list(MovedDigitViews(digits(images), 64, seed=seed, local_views=1)) for seed in (5, 5, 6)
    )
    assert len(first) == 3 and all(map(same, first, second))
    assert not any(map(same, first, other))
    assert [view.shape[-1] for view in first[0].views] == [32, 32, 16]


def test_goes_on_where_a_state_was_taken(images):
    whole = MovedDigitViews(digits(images), 64, seed=5)
    batches = [*whole, *whole]
    broken = MovedDigitViews(digits(images), 64, seed=5)
    for _ in zip(range(2), broken, strict=False):
        pass
    resumed = MovedDigitViews(digits(images), 64, seed=5)
    resumed.load_state_dict(broken.state_dict())
    assert all(map(same, [*resumed, *resumed], batches[2:]))


def test_ranks_share_a_batch(images):
    options = {"seed": 3, "local_views": 1}
    whole = MovedDigitViews(digits(images), 60, **options)
    ranks = [MovedDigitViews(digits(images), 60, **options, rank=r, world_size=3) for r in range(3)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.indices, batch.indices[rank::3])
            for own, all_ in zip(part.views, batch.views, strict=True):
                torch.testing.assert_close(own, all_[rank::3])
            torch.testing.assert_close(part.parameters, batch.parameters[:, rank::3])


def test_coordinates_are_where_the_ink_is_from():
    # A square of 8 pixels, rows 3 to 10 and columns 15 to 22: cells with ink come from there.
    (batch,) = MovedDigitViews(digits(square(30)), 30, local_views=1)
    for number, view in enumerate(batch.views):
        places = batch.coordinates(number, view.shape[-1])
        inside = ((places > torch.tensor([3.0, 15])) & (places < torch.tensor([11.0, 23]))).all(-1)
        assert places.shape == (30, *view.shape[-2:], 2)
        assert inside.sum() > 30
        assert torch.equal(inside, view[:, 0] > 0.5) or (inside != (view[:, 0] > 0.5)).sum() < 20


def test_wrong_dtype():
    with pytest.raises(TypeError, match=r"uint8, got a tensor .* of torch\.float32"):
        move_digits(torch.zeros(2, 28, 28), generator())
    with pytest.raises(TypeError, match="uint8"):
        MovedDigitViews(digits(torch.zeros(2, 28, 28)), 1)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(n, height, width\).*\(28, 28\)"):
        move_digits(torch.zeros(28, 28, dtype=torch.uint8), generator())


def test_wrong_numbers():
    for options, message in (
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 11}, "10 images do not fill a batch of 11"),
        ({"batch_size": 5, "world_size": 2}, "ranks must divide a batch"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, "rank be below world_size"),
        ({"batch_size": 4, "whole_views": 0}, "whole_views must be in 1..10000, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MovedDigitViews(digits(square(10)), **options)
