"""Tests that need a device: values of the compiled kernel, and no synchronisation."""

import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph

from sslkernels import random_directions

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("step", [0, -5, 2**32 + 7])
@pytest.mark.parametrize("impl", ["triton", "reference"])
@pytest.mark.parametrize("features, slices", [(1, 5), (3, 1000), (128, 1024), (3001, 70)])
def test_the_same_as_on_a_cpu(impl, features, slices, step):
    for seed in (0, 2**62):
        at = torch.tensor(step)
        expected = random_directions(at, features, slices, seed=seed).cuda()
        ours = random_directions(at.cuda(), features, slices, seed=seed, impl=impl)
        assert ours.stride() == expected.stride()
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_graph_capture_and_no_host_sync(dtype):
    counter = torch.full((), 7, dtype=torch.int64, device="cuda")

    def step():
        return [random_directions(counter, 128, 1024, dtype=dtype)]

    assert_no_wait(step)
    assert_repeats(step)
    assert_repeats_as_graph(step)
