"""Relative distance against its definition, and its invariances."""

import math

import pytest
import torch

from sslkernels.metrics import relative_distance


def test_equals_the_definition_over_all_pairs():
    plain, augmented = torch.randn(2, 30, 5, dtype=torch.float64)
    pairs = [(a - b).square().sum() for i, a in enumerate(plain) for b in plain[:i]]
    expected = (plain - augmented).square().sum(1).mean() / (sum(pairs) / len(pairs))
    assert relative_distance(plain, augmented) == pytest.approx(float(expected), rel=1e-12)


def test_nothing_changed_is_zero_and_another_image_is_one():
    features = torch.randn(5000, 8)
    assert relative_distance(features, features) == 0
    # The mean over all shifts is over all pairs; one shift of many images is near it.
    assert relative_distance(features, features.roll(1, 0)) == pytest.approx(1, abs=0.05)
    assert relative_distance(features, features + 0.1) < 0.01


def test_length_and_origin_do_not_matter():
    plain, augmented = torch.randn(2, 50, 8).double()
    moved = relative_distance(3 * plain + 100, 3 * augmented + 100)
    assert moved == pytest.approx(relative_distance(plain, augmented), rel=1e-9)


def test_collapsed_features_are_nan():
    assert math.isnan(relative_distance(torch.ones(5, 3), torch.ones(5, 3)))


@pytest.mark.parametrize(
    ("plain", "augmented", "error", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 3), ValueError, r"same shape, got \(4, 2\)"),
        (torch.zeros(1, 2), torch.zeros(1, 2), ValueError, "n ≥ 2"),
        (torch.zeros(4, 2), torch.zeros(4, 2).long(), TypeError, "augmented must be float16"),
    ],
)
def test_wrong_input(plain, augmented, error, message):
    with pytest.raises(error, match=message):
        relative_distance(plain, augmented)
