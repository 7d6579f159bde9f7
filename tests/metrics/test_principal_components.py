"""Principal components of features along known axes."""

import math

import pytest
import torch
from feature_matrices import with_singular_values

from sslkernels.metrics import principal_components


def test_axes_are_found_in_order_of_their_variance():
    x = with_singular_values(60, 3, torch.tensor([1.0, 1.0, 1.0]))
    x = torch.linalg.qr(x)[0] * torch.tensor([1.0, 5.0, 2.0]).double() + 7
    coordinates, shares = principal_components(x, 2)
    torch.testing.assert_close(shares, torch.tensor([25 / 30, 4 / 30]).double())
    torch.testing.assert_close(coordinates, (x - x.mean(0))[:, [1, 2]])


def test_all_components_keep_all_distances():
    x = torch.randn(20, 5)
    coordinates, shares = principal_components(x, 5)
    assert coordinates.dtype == torch.float32 and float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(torch.cdist(coordinates, coordinates), torch.cdist(x, x))


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [
        (torch.zeros(1, 3), 2, "n ≥ 2"),
        (torch.zeros(5, 3), 4, r"1\.\.3, got 4"),
        (torch.full((5, 3), math.nan), 2, "must be finite"),
    ],
)
def test_wrong_input(features, k, message):
    with pytest.raises(ValueError, match=message):
        principal_components(features, k)
