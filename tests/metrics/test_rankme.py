"""RankMe of matrices with known singular values, and the singular values themselves."""

import math

import pytest
import torch
from feature_matrices import with_singular_values

from sslkernels.metrics import covariance_eigenvalues, rankme, singular_values


@pytest.mark.parametrize(("n", "d"), [(300, 40), (40, 300), (64, 64), (9000, 5)])
def test_singular_values_are_those_of_the_matrix(n, d):
    features = torch.randn(n, d, dtype=torch.float64) + 0.5
    expected = torch.linalg.svdvals(features)
    torch.testing.assert_close(singular_values(features), expected, rtol=1e-10, atol=0)
    centered = torch.linalg.svdvals(features - features.mean(0)) ** 2 / n
    torch.testing.assert_close(covariance_eigenvalues(features), centered, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize(("n", "d"), [(400, 200), (200, 400)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k_equal_directions_count_as_k(k, n, d, dtype):
    features = with_singular_values(n, d, torch.full((k,), 3.0)).to(dtype)
    # Each unused direction adds −ε ln ε, and float32's rounding less than 3 ε.
    bound = 4 * 200 * -1e-7 * math.log(1e-7)
    assert 0 <= math.log(rankme(features) / k) < bound


def test_shares_decide_between_equal_and_one():
    # Shares ½, ¼, ¼: entropy 1½ bits.
    features = with_singular_values(50, 8, torch.tensor([2.0, 1.0, 1.0]))
    assert rankme(features) == pytest.approx(2**1.5, rel=1e-4)


def test_it_is_not_centred_and_scale_does_not_matter():
    features = torch.randn(500, 10)
    assert rankme(features) == pytest.approx(10, rel=0.02)
    assert rankme(1000 * features) == pytest.approx(rankme(features), rel=1e-6)
    assert rankme(features + 1000) < 1.5


def test_a_large_epsilon_counts_what_is_not_there():
    features = torch.randn(2500, 1, dtype=torch.float64) @ torch.randn(1, 2048).double()
    assert rankme(features) == pytest.approx(1.0, abs=0.005)
    assert rankme(features, epsilon=1e-5) == pytest.approx(1.27, abs=0.005)  # as measured elsewhere


def test_nan_and_zeros_are_nan():
    features = torch.randn(20, 4)
    features[3, 2] = math.nan
    assert math.isnan(rankme(features)) and math.isnan(rankme(torch.zeros(20, 4)))
    assert singular_values(features).isnan().all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(3),), ValueError, r"\(n, d\) with n ≥ 1, got shape \(3,\)"),
        ((torch.zeros(0, 3),), ValueError, r"got shape \(0, 3\)"),
        ((torch.zeros(3, 0),), ValueError, r"got shape \(3, 0\)"),
        ((torch.zeros(3, 3).long(),), TypeError, "got torch.int64"),
        (([[1.0]],), TypeError, "got a list"),
        ((torch.zeros(3, 3), 0.0), ValueError, "epsilon must be above 0, got 0.0"),
    ],
)
def test_wrong_input(arguments, error, message):
    with pytest.raises(error, match=message):
        rankme(*arguments)


def test_a_covariance_needs_two_rows():
    with pytest.raises(ValueError, match=r"n ≥ 2, got shape \(1, 3\)"):
        covariance_eigenvalues(torch.zeros(1, 3))
