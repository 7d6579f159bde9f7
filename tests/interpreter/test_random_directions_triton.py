"""Values of the Triton kernel, run by the interpreter."""

import pytest
import torch
import triton
import triton.language as tl

from sslkernels import random_directions


@triton.jit
def _philox_kernel(out_ptr, seed: tl.int64, c0, c1, c2, c3):
    zero = tl.zeros((16,), tl.int32)
    words = tl.philox(seed, zero + c0, zero + c1, zero + c2, zero + c3)
    for i in tl.static_range(4):
        tl.store(out_ptr + 16 * i + tl.arange(0, 16), words[i].to(tl.int64))


@pytest.mark.parametrize("counter, seed, result", [
    (0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (-1, -1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
])  # fmt: skip
def test_philox_gives_the_published_words(counter, seed, result):
    out = torch.empty(4, 16, dtype=torch.int64)
    _philox_kernel[(1,)](out, seed, *[counter] * 4)
    assert (out & 0xFFFFFFFF).tolist() == [[x] * 16 for x in result]


@pytest.mark.parametrize("step", [0, -5, 2**32 + 7, 2**63 - 1])
@pytest.mark.parametrize("features, slices", [
    (1, 100), (2, 33), (3, 40), (5, 7), (16, 40), (63, 33), (128, 20), (300, 5), (3000, 3),
])  # fmt: skip
def test_agrees_with_the_reference(features, slices, step):
    for seed in (0, 2**40 + 3, 2**63 - 1):
        arguments = torch.tensor(step), features, slices
        expected = random_directions(*arguments, seed=seed, impl="reference")
        ours = random_directions(*arguments, seed=seed, impl="triton")
        assert ours.stride() == expected.stride()
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_dtypes():
    step = torch.tensor(3)
    exact = random_directions(step, 70, 30, impl="triton")
    half = random_directions(step, 70, 30, dtype=torch.float16, impl="triton")
    assert torch.equal(half, exact.half())
    double = random_directions(step, 70, 30, dtype=torch.float64, impl="triton")
    assert (double.norm(dim=0) - 1).abs().max() < 1e-15
