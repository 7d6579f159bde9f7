"""The random numbers of views: their distributions, and that they are independent."""

import math
import random

import pytest
import torch

from sslkernels.data.dali import draw_views
from sslkernels.data.recipes.view import View

COUNT = 20_000
FOUR_SIGMA = 4 / math.sqrt(COUNT)


def draw(*views, seed=0, size=(400, 500), count=COUNT, turn=False):
    sizes = torch.tensor([size]).expand(count, 2)
    return draw_views(views, sizes, torch.Generator().manual_seed(seed), turn=turn)


def torchvision_box(rng, view, height, width):
    """RandomResizedCrop.get_params, word for word but for the source of random numbers."""
    area = height * width
    for _ in range(10):
        target_area = area * rng.uniform(*view.scale)
        aspect_ratio = math.exp(rng.uniform(*map(math.log, view.ratio)))
        w = int(round(math.sqrt(target_area * aspect_ratio)))
        h = int(round(math.sqrt(target_area / aspect_ratio)))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    in_ratio = width / height
    if in_ratio < min(view.ratio):
        w = width
        h = int(round(w / min(view.ratio)))
    elif in_ratio > max(view.ratio):
        h = height
        w = int(round(h * max(view.ratio)))
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("size", [(400, 500), (90, 300), (300, 64), (33, 47)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.05, 0.4), (0.9, 1.0)])
def test_boxes_are_distributed_as_those_of_random_resized_crop(size, scale):
    view, rng = View(scale=scale), random.Random(0)
    boxes = draw(view, size=size).boxes[:, 0].double()
    expected = torch.tensor([torchvision_box(rng, view, *size) for _ in range(COUNT)]).double()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size)).all()
    # Two-sample Kolmogorov-Smirnov of each number, of the area and of the ratio, at 1e-6.
    for ours, theirs in zip(features(boxes), features(expected), strict=True):
        points = torch.cat([ours, theirs]).unique()
        gap = share_up_to(ours, points) - share_up_to(theirs, points)
        assert gap.abs().max() < math.sqrt(-math.log(1e-6 / 2) / COUNT)


def features(boxes):
    top, left, height, width = boxes.unbind(1)
    return top, left, height, width, height * width, width / height, top + left


def share_up_to(values, points):
    return torch.searchsorted(values.sort().values, points, right=True) / len(values)


def test_an_image_too_long_for_the_ratio_is_cropped_in_its_middle():
    boxes = draw(View(scale=(1.0, 1.0)), size=(100, 900), count=50).boxes[:, 0]
    assert (boxes == torch.tensor([0, (900 - 133) // 2, 100, 133])).all()
    boxes = draw(View(scale=(1.0, 1.0)), size=(900, 100), count=50).boxes[:, 0]
    assert (boxes == torch.tensor([(900 - 133) // 2, 0, 133, 100])).all()


def test_probabilities():
    view = View(flip=0.3, jitter=0.8, grayscale=0.2, blur=0.1, solarize=0.6)
    drawn = draw(view, turn=True)
    for values, probability in (
        (drawn.flips, 0.3),
        (drawn.jitters, 0.8),
        (drawn.grays, 0.2),
        (drawn.sigmas > 0, 0.1),
        (drawn.solarized, 0.6),
    ):
        assert values.double().mean() == pytest.approx(probability, abs=FOUR_SIGMA / 2)
    turns = drawn.quarter_turns.flatten().bincount(minlength=4) / COUNT
    assert turns.tolist() == pytest.approx([0.25] * 4, abs=FOUR_SIGMA / 2)


def test_never_and_always():
    drawn = draw(View(flip=0, jitter=1, grayscale=0, blur=1, solarize=0), count=100)
    assert not drawn.flips.any() and drawn.jitters.all() and not drawn.grays.any()
    assert (drawn.sigmas > 0).all() and not drawn.solarized.any()
    assert (drawn.quarter_turns == 0).all()


def test_factors_cover_their_ranges_evenly():
    drawn = draw(
        View(brightness=0.4, contrast=1.5, saturation=0.0, hue=0.1, sigma=(0.5, 2.0), blur=1)
    )
    ranges = [(0.6, 1.4), (0.0, 2.5), (1.0, 1.0), (-0.1, 0.1)]
    columns = [*drawn.factors[:, 0].double().unbind(1), drawn.sigmas[:, 0].double()]
    for values, (low, high) in zip(columns, [*ranges, (0.5, 2.0)], strict=True):
        if low == high:
            assert (values == low).all()
            continue
        shares = torch.histc((values - low) / (high - low), 10, 0, 1) / COUNT
        assert shares.sum() == pytest.approx(1)
        assert (shares - 0.1).abs().max() < FOUR_SIGMA * 0.3


def test_orders_are_all_permutations_equally_often():
    codes = (draw(View()).orders[:, 0] * torch.tensor([1, 4, 16, 64])).sum(1)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 24
    expected = COUNT / 24
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


def test_views_are_independent():
    drawn = draw(View(), View())
    for values in (drawn.boxes[..., 0], drawn.boxes[..., 2], drawn.flips, drawn.factors[..., 0]):
        assert torch.corrcoef(values.double().T)[0, 1].abs() < FOUR_SIGMA


def test_the_generator_decides():
    for first, same, other in zip(
        *(draw(View(), seed=s, count=50) for s in (1, 1, 2)), strict=True
    ):
        assert torch.equal(first, same)
        assert not torch.equal(first, other) or first.unique().numel() == 1
