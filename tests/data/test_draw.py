"""The random numbers of views: their distributions and independence."""

import math
import random

import pytest
import torch

from sslkernels.data.recipes import View, draw_parameters
from sslkernels.primitives.augment_views.parameters import Parameters, crop_boxes

COUNT = 20_000
FOUR_SIGMA = 4 / math.sqrt(COUNT)


def draw(*views, seed=0, size=(400, 500), count=COUNT):
    """(V, N, 13)."""
    sizes = torch.tensor([size]).expand(count, 2)
    return draw_parameters(views, sizes, torch.Generator().manual_seed(seed))


def torchvision_box(rng, view, height, width):
    """RandomResizedCrop.get_params, identical except for the source of random numbers."""
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
    boxes = crop_boxes(draw(view, size=size)[0]).double()
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
    boxes = crop_boxes(draw(View(scale=(1.0, 1.0)), size=(100, 900), count=50))
    assert (boxes == torch.tensor([0, (900 - 133) // 2, 100, 133])).all()
    boxes = crop_boxes(draw(View(scale=(1.0, 1.0)), size=(900, 100), count=50))
    assert (boxes == torch.tensor([(900 - 133) // 2, 0, 133, 100])).all()


def test_probabilities():
    drawn = Parameters.of(draw(View(flip=0.3, jitter=0.8, grayscale=0.2, blur=0.1, solarize=0.6)))
    for values, probability in (
        (drawn.flip == 1, 0.3),
        (drawn.hue != 0, 0.8),
        (drawn.grayscale == 1, 0.2),
        (drawn.sigma > 0, 0.1),
        (drawn.solarize == 128, 0.6),
    ):
        assert values.double().mean() == pytest.approx(probability, abs=FOUR_SIGMA / 2)


def test_factors_cover_their_ranges_evenly():
    view = View(
        jitter=1, brightness=0.4, contrast=1.5, saturation=0, hue=0.1, sigma=(0.5, 2.0), blur=1
    )
    drawn = Parameters.of(draw(view)[0].double())
    assert (drawn.saturation == 1).all()
    for values, low, high in (
        (drawn.brightness, 0.6, 1.4),
        (drawn.contrast, 0.0, 2.5),
        (drawn.hue, -0.1, 0.1),
        (drawn.sigma, 0.5, 2.0),
    ):
        shares = torch.histc((values - low) / (high - low), 10, -1e-6, 1 + 1e-6) / COUNT
        assert shares.sum() == pytest.approx(1)
        assert (shares - 0.1).abs().max() < FOUR_SIGMA * 0.3


def test_orders_are_all_permutations_equally_often():
    drawn = Parameters.of(draw(View())[0])
    orders = torch.stack([drawn.operations(position) for position in range(4)], 1)
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand(COUNT, 4))
    counts = orders.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert (counts - COUNT / 24).abs().max() < 5 * math.sqrt(COUNT / 24)


def test_views_are_independent():
    drawn = Parameters.of(draw(View(), View()).double())
    for values in (drawn.top, drawn.height, drawn.flip, drawn.brightness, drawn.order):
        assert torch.corrcoef(values)[0, 1].abs() < FOUR_SIGMA
