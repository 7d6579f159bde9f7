"""Values of the fused kernel, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong.)
"""

import pytest
import torch
from oracle import check_nearest_neighbor

from sslkernels import nearest_neighbor

pytestmark = pytest.mark.usefixtures("fused_float32")


def integers(n, d, dtype=torch.float32):
    return torch.randint(-3, 4, (n, d)).to(dtype)


def assert_equals_reference(q, k, exclude=()):
    expected = nearest_neighbor(q, k, exclude=exclude, impl="reference")
    ours = nearest_neighbor(q, k, exclude=exclude, impl="triton")
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("n, m, exclude", [
    (150, 150, (0,)), (150, 150, (0, 75, -75, 149)), (70, 340, ()), (340, 70, (0, 7)),
])  # fmt: skip
def test_as_exact_as_eager(dtype, n, m, exclude):
    check_nearest_neighbor("triton", n, m, 33, 1, exclude, dtype=dtype, draws=1, floor=1e-6)


@pytest.mark.parametrize("d", [1, 16, 100, 129, 256])
def test_depths(d):
    check_nearest_neighbor("triton", 40, 90, d, draws=1, floor=1e-6)
    check_nearest_neighbor("triton", 40, 90, 2 * d, dtype=torch.float16, draws=1, floor=1e-6)


@pytest.mark.parametrize("n, m", [(1, 1), (1, 270), (270, 1), (128, 64), (130, 150)])
def test_of_equals_the_smallest_index(n, m):
    q, k = integers(n, 4, torch.float16), integers(m, 4, torch.float16)
    assert_equals_reference(q, k)
    assert_equals_reference(q, k, (0, 3, -5))
    assert_equals_reference(torch.zeros_like(q), k)


def test_strides():
    assert_equals_reference(integers(20, 130).T, integers(100, 60)[::2, 5:25])
    assert_equals_reference(integers(1, 20).expand(130, 20), integers(50, 40)[:, ::2])


def test_nothing_left_nan_and_infinity():
    similarities, indices = nearest_neighbor(
        torch.ones(3, 4), torch.ones(2, 4), exclude=(0, 1, -1), impl="triton"
    )
    assert similarities[:, 0].tolist() == [-float("inf"), -float("inf"), 4.0]
    assert indices[:, 0].tolist() == [-1, -1, 0]

    q, k = integers(60, 8), integers(150, 8)
    k[40, 1] = float("inf")
    assert_equals_reference(q, k)
    q[20, 1] = float("nan")
    assert_equals_reference(q, k)
    k[[70, 140], 3] = -float("nan")
    assert_equals_reference(q, k, (70 - 30,))
    assert_equals_reference(q, k)


def test_bitwise_repeatable():
    q, k = torch.randn(40, 8), torch.randn(150, 8)
    first, second = (nearest_neighbor(q, k, impl="triton") for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("arguments, words", [
    ({"topk": 2}, "topk=2; use impl='tiled'"),
    ({"exclude": (0, 1, 2, 3, 4)}, "at most 4 diagonals, got 5"),
    ({"dtype": torch.float64}, "float64"),
])  # fmt: skip
def test_what_it_cannot_take_is_named(arguments, words):
    dtype = arguments.pop("dtype", torch.float32)
    x = torch.ones(3, arguments.pop("d", 4), dtype=dtype)
    with pytest.raises(ValueError, match=words):
        nearest_neighbor(x, x, impl="triton", **arguments)
