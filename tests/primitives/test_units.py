"""The powers of two that keep gradients in float16's range."""

import math

import pytest
import torch

from sslkernels._operator import unit_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_power_of_two_brings_the_largest_to_two_to_the_14(dtype):
    for exponent in range(-120, 121):
        peak = torch.tensor(1.7 * 2.0**exponent, dtype=dtype)
        expected = math.ldexp(1.0, min(100, max(-100, 14 - (exponent + 1))))
        assert unit_of(peak).item() == expected and unit_of(peak).dtype == dtype
