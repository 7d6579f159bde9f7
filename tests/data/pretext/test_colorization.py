"""Colourisation: CIE Lab, the bins of colours, their soft encoding and balance."""

import math

import pytest
import torch

from sslkernels.data.pretext import (
    color_bins,
    colorization,
    rebalancing_weights,
    rgb_to_lab,
    soft_encode,
)


def pixels(*colors):
    return torch.tensor(colors, dtype=torch.uint8).T[None, :, None]  # (1, 3, 1, n)


def test_lab_of_known_colors():
    # Bruce Lindbloom's calculator, sRGB, D65.
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    lab = rgb_to_lab(pixels(*known))[0, :, 0].T
    assert (lab - torch.tensor(list(known.values()))).abs().max() < 0.05


def test_gray_has_no_color():
    gray = torch.arange(256).byte().expand(1, 3, 1, 256)
    lab = rgb_to_lab(gray)
    assert lab[:, 1:].abs().max() < 0.05
    assert (lab[0, 0, 0].diff() > 0).all()


def test_every_color_has_its_bin_and_every_bin_a_color():
    bins = color_bins()
    assert bins.shape == (261, 2)
    assert torch.equal(bins, (bins / 10).round() * 10)
    random = torch.randint(256, (1, 3, 1000, 1000), dtype=torch.uint8)
    found = (rgb_to_lab(random)[0, 1:].flatten(1).T / 10).round() * 10
    found = {tuple(row) for row in found.unique(dim=0).tolist()}
    known = {tuple(row) for row in bins.tolist()}
    assert found <= known
    assert len(found) > 240  # the others occur in corners of the cube


def test_soft_encoding_is_a_gaussian_of_the_five_nearest():
    bins = color_bins()
    images = torch.randint(256, (2, 3, 6, 7), dtype=torch.uint8)
    ab = rgb_to_lab(images)[:, 1:]
    indices, weights = soft_encode(ab, bins)
    assert indices.shape == weights.shape == (2, 5, 6, 7)
    for n, y, x in ((0, 0, 0), (1, 3, 4), (1, 5, 6)):
        color = ab[n, :, y, x].tolist()
        squares = [(a - color[0]) ** 2 + (b - color[1]) ** 2 for a, b in bins.tolist()]
        nearest = sorted(range(len(squares)), key=squares.__getitem__)[:5]
        assert indices[n, :, y, x].tolist() == nearest
        gaussian = [math.exp(-squares[i] / 50) for i in nearest]
        expected = [g / sum(gaussian) for g in gaussian]
        assert weights[n, :, y, x].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (weights.sum(1) - 1).abs().max() < 1e-5


def test_balance_of_the_paper():
    frequencies = torch.tensor([80.0, 15.0, 5.0, 0.0])
    weights = rebalancing_weights(frequencies)
    shares = frequencies / 100
    assert (shares * weights).sum() == pytest.approx(1)
    mixture = 0.5 * shares + 0.5 / 4
    assert (weights * mixture).tolist() == pytest.approx([(weights * mixture)[0].item()] * 4)
    assert torch.equal(rebalancing_weights(frequencies, 1.0), torch.ones(4))


def test_the_task():
    bins = color_bins()
    images = torch.randint(256, (3, 3, 8, 9), dtype=torch.uint8)
    lightness, indices, weights = colorization(images, bins)
    lab = rgb_to_lab(images)
    assert torch.equal(lightness, lab[:, :1] - 50)
    expected = soft_encode(lab[:, 1:], bins)
    assert torch.equal(indices, expected[0]) and torch.equal(weights, expected[1])
    balance = torch.rand(len(bins))
    _, _, balanced = colorization(images, bins, balance)
    assert torch.allclose(balanced.sum(1), balance[indices[:, 0]])


def test_wrong_input():
    with pytest.raises(TypeError, match=r"uint8, got torch\.float32"):
        colorization(torch.zeros(1, 3, 4, 4), color_bins())
    with pytest.raises(ValueError, match=r"\(N, 3, height, width\), got \(1, 1, 4, 4\)"):
        colorization(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), color_bins())
    with pytest.raises(ValueError, match="uniform must be above 0, got 0"):
        rebalancing_weights(torch.ones(3), 0)
    with pytest.raises(ValueError, match="not all 0"):
        rebalancing_weights(torch.zeros(3))
    with pytest.raises(ValueError, match=r"must be \(Q,\), got \(3, 2\)"):
        rebalancing_weights(torch.ones(3, 2))
