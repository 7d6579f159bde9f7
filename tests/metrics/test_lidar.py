"""LiDAR of views scattered about images whose means are in known directions."""

import math

import pytest
import torch
from feature_matrices import with_singular_values

from sslkernels.metrics import lidar


def clusters(n, q, means, noise, seed=0):
    """(n, q, d): the views of each image have exactly its mean, and scatter by ``noise``."""
    generator = torch.Generator().manual_seed(seed)
    scatter = torch.randn(n, q, means.shape[1], generator=generator, dtype=torch.float64)
    return means[:, None] + noise * (scatter - scatter.mean(1, keepdim=True))


@pytest.mark.parametrize("k", [1, 4, 10])
def test_k_directions_of_means_count_as_k(k):
    means = with_singular_values(200, 16, torch.full((k,), 10.0))
    assert lidar(clusters(200, 40, means, 0.1)) == pytest.approx(k, rel=0.01)


def test_a_direction_in_which_views_scatter_counts_for_less():
    means = with_singular_values(200, 16, torch.full((4,), 10.0))
    features = clusters(200, 40, means, 0.1)
    along = means[0] / means[0].norm()
    noisy = features + 30 * along * torch.randn(200, 40, 1, dtype=torch.float64)
    assert lidar(noisy) < lidar(features) - 0.5
    # A linear map of all features changes means and scatter alike (except for δ), unlike RankMe.
    stretch = torch.diag(torch.logspace(0, 1, 16, dtype=torch.float64))
    assert lidar(features @ stretch, delta=1e-12) == pytest.approx(
        lidar(features, delta=1e-12), rel=1e-6
    )


def test_equals_the_formula():
    features = torch.randn(30, 5, 6, dtype=torch.float64) + torch.randn(30, 1, 6)
    delta, epsilon = 0.3, 1e-3
    means = features.mean(1)
    between = sum(torch.outer(m, m) for m in means - means.mean(0)) / 30
    scatter = (features - means[:, None]).flatten(0, 1)
    within = sum(torch.outer(x, x) for x in scatter) / 150 + delta * torch.eye(6)
    values, vectors = torch.linalg.eigh(within)
    root = vectors / values.sqrt() @ vectors.T
    eigenvalues = torch.linalg.eigvalsh(root @ between @ root)
    p = eigenvalues / eigenvalues.sum() + epsilon
    expected = math.exp(-(p * p.log()).sum())
    assert lidar(features, delta, epsilon) == pytest.approx(expected, rel=1e-9)


def test_many_images_and_half_precision():
    features = torch.randn(600, 3, 4) + 3 * torch.randn(600, 1, 4)
    assert lidar(features) == pytest.approx(4, rel=0.02)
    assert lidar(features.bfloat16()) == pytest.approx(lidar(features), rel=0.01)


def test_views_that_are_all_alike_are_nan():
    assert math.isnan(lidar(torch.ones(10, 3, 4)))
    assert math.isnan(lidar(torch.full((10, 3, 4), math.inf)))


@pytest.mark.parametrize(
    ("features", "options", "error", "message"),
    [
        (torch.zeros(10, 4), {}, ValueError, r"\(n, q, d\) with n, q ≥ 2, got shape \(10, 4\)"),
        (torch.zeros(10, 1, 4), {}, ValueError, r"got shape \(10, 1, 4\)"),
        (torch.zeros(1, 10, 4), {}, ValueError, r"got shape \(1, 10, 4\)"),
        (torch.zeros(10, 3, 4).int(), {}, TypeError, "got torch.int32"),
        (torch.zeros(10, 3, 4), {"delta": 0.0}, ValueError, "delta must be above 0"),
        (torch.zeros(10, 3, 4), {"epsilon": -1.0}, ValueError, "epsilon must be above 0"),
    ],
)
def test_wrong_input(features, options, error, message):
    with pytest.raises(error, match=message):
        lidar(features, **options)
