"""The exponent of power-law spectra, and the weights of the fit."""

import math

import pytest
import torch
from feature_matrices import with_singular_values

from sslkernels.metrics import alpha_req, fit_power_law


def power_law(alpha, count):
    return torch.arange(1, count + 1, dtype=torch.float64) ** -alpha


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
@pytest.mark.parametrize(("n", "d"), [(400, 100), (101, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_with_a_power_law_have_its_exponent(alpha, n, d, dtype):
    features = with_singular_values(n, d, power_law(alpha, 100).sqrt()).to(dtype)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-8
    assert alpha_req(features) == pytest.approx(alpha, abs=tolerance)
    assert alpha_req(7 * features + 3, last=50) == pytest.approx(alpha, abs=tolerance)


def test_only_the_range_is_fitted():
    eigenvalues = power_law(1.5, 80)
    eigenvalues[:4] += 10
    eigenvalues[60:] *= 0.1
    fit = fit_power_law(eigenvalues, 5, 60)
    assert (fit.first, fit.last) == (5, 60)
    assert fit.alpha == pytest.approx(1.5) and fit.scale == pytest.approx(1)
    assert fit_power_law(eigenvalues, 1, 80).alpha > 1.6


def test_weights_are_one_over_the_index():
    eigenvalues = torch.rand(30, dtype=torch.float64).sort(descending=True).values + 0.01
    i = torch.arange(11, 31, dtype=torch.float64)
    # The normal equations of Σ (1/i) (ln λ + α ln i − c)².
    x = torch.stack([-i.log(), torch.ones_like(i)], 1)
    alpha, c = torch.linalg.solve(x.T @ (x / i[:, None]), x.T @ (eigenvalues[10:].log() / i))
    fit = fit_power_law(eigenvalues)
    assert fit.alpha == pytest.approx(float(alpha)) and fit.scale == pytest.approx(math.exp(c))


def test_zeros_and_rounding_are_left_out():
    features = with_singular_values(300, 100, power_law(1, 40).sqrt())
    assert alpha_req(features) == pytest.approx(1, abs=1e-8)
    # 19 directions, in spite of float32's rounding errors
    assert alpha_req(features[:20].float()) > 0
    assert fit_power_law(torch.cat([power_law(1, 20), torch.zeros(80)])).last == 20


def test_nan_is_nan():
    assert math.isnan(alpha_req(torch.full((30, 20), math.nan)))


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (torch.randn(30, 11), {}, "at least 2 eigenvalues from number 11 on; only 11 are above 0"),
        (torch.zeros(30, 20), {}, "only 0 are above 0"),
        (torch.randn(30, 20), {"first": 0}, "first must be at least 1, got 0"),
        (torch.randn(30, 20), {"last": 11}, "first must be below last, got 11 and 11"),
        (torch.randn(1, 20), {}, r"n ≥ 2, got shape \(1, 20\)"),
    ],
)
def test_wrong_input(features, options, message):
    with pytest.raises(ValueError, match=message):
        alpha_req(features, **options)
