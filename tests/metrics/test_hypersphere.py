"""Alignment and uniformity, shared with the losses, for known values."""

import math

import pytest
import torch

from sslkernels.metrics import alignment, uniformity


def test_alignment_of_pairs_at_a_known_angle():
    angle = torch.rand(20) * 3
    x = torch.tensor([[1.0, 0.0]]).expand(20, 2)
    y = 5 * torch.stack([angle.cos(), angle.sin()], 1)
    assert float(alignment(x, y)) == pytest.approx(float((2 - 2 * angle.cos()).mean()), rel=1e-5)
    assert float(alignment(x, y, alpha=1)) == pytest.approx(
        float((2 - 2 * angle.cos()).sqrt().mean()), rel=1e-5
    )


def test_uniformity_of_a_point_of_two_poles_and_of_a_simplex():
    point = torch.ones(10, 3)
    assert float(uniformity(point)) == pytest.approx(0, abs=1e-5)
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # distance 2: −t · 4
    assert float(uniformity(poles)) == pytest.approx(-8, abs=1e-5)
    axes = torch.eye(12)  # squared distance 2 between any two
    assert float(uniformity(axes, t=0.5)) == pytest.approx(-1, abs=1e-5)


def test_uniformity_of_the_whole_circle():
    # mean of e^(−t (2 − 2 cos φ)) over the circle is e^(−2t) I₀(2t)
    angle = torch.arange(4000) * (2 * math.pi / 4000)
    circle = torch.stack([angle.cos(), angle.sin()], 1).double()
    expected = -4 + math.log(torch.special.i0(torch.tensor(4.0).double()))
    assert float(uniformity(circle)) == pytest.approx(expected, abs=2e-3)
