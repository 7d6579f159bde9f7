"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong.)
"""

import pytest
import torch
from covering import covering
from oracle import check_pairwise_logsumexp

from sslkernels import pairwise_logsumexp
from sslkernels.primitives import _chunks, _tile_table
from sslkernels.primitives._triton import fuses


@pytest.mark.parametrize("route, scale, case", covering(
    ["fused", "by products"],
    [4.0, 100.0, -3.0],  # free, shifted, negative
    [
        (150, None, (0,), False),
        (150, None, (0, 75, -75), True),
        (70, None, (), True),
        (70, 140, (0, 7), True),
        (70, 140, (), False),
    ],
), indirect=["route"], ids=str)  # fmt: skip
def test_float32(route, scale, case):
    n, m, exclude, columns = case
    # floor: the interpreter's products of a tile and of its transpose round differently
    floor = max(1e-6, scale * torch.finfo(torch.float32).eps)
    check_pairwise_logsumexp("triton", n, m, 33, scale, exclude, columns, draws=2, floor=floor)


@pytest.mark.parametrize("scale", [4.0, 100.0], ids=["free", "shifted"])
@pytest.mark.parametrize("m", [None, 80], ids=["symmetric", "general"])
def test_float16(m, scale):
    check_pairwise_logsumexp(
        "triton", 150, m, 20, scale, (0,), dtype=torch.float16, draws=6, floor=1e-6
    )


@pytest.mark.parametrize("d", [1, 16, 100, 129, 300])
def test_depths(route, d):
    check_pairwise_logsumexp("triton", 40, 30, d, 2.0, draws=1, floor=1e-6)


@pytest.mark.parametrize("n, m", [(1, 1), (1, 200), (200, 1), (128, 64)])
def test_edges(route, n, m):
    check_pairwise_logsumexp("triton", n, m, 8, 2.0, draws=4, floor=1e-6)


def test_blocks_of_several_tiles(monkeypatch):
    monkeypatch.setattr(_tile_table, "MOST_BLOCKS", 2)
    check_pairwise_logsumexp("triton", 600, None, 4, 3.0, (0,), dtype=torch.float16, draws=1)
    check_pairwise_logsumexp("triton", 300, 600, 4, 80.0, (3,), dtype=torch.float16, draws=1)


@pytest.mark.parametrize("m", [None, 130], ids=["symmetric", "general"])
def test_gradients_of_wide_embeddings_in_chunks(m, monkeypatch):
    sizes = []
    product = _chunks.product

    def recorded(a, b, out):
        sizes.append(a.shape)
        return product(a, b, out)

    monkeypatch.setattr(_chunks, "product", recorded)
    monkeypatch.setattr(_chunks, "MOST_BYTES", 1)
    check_pairwise_logsumexp(
        "triton", 300, m, 260, 20.0, (0,), m is not None, torch.float16, draws=1, floor=1e-6
    )
    heights = [height for height, width in sizes if width == (m or 300)]
    assert sum(heights) == 300 and max(heights) < 300


def test_many_diagonals_take_the_other_route():
    q = torch.randn(40, 8, dtype=torch.float16)
    exclude = (0, 1, 2, 3, 4)
    assert not fuses(q, exclude)
    check_pairwise_logsumexp("triton", 40, 50, 8, 2.0, exclude, dtype=torch.float16, draws=1)


@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["free", "shifted"])
def test_nothing_left_and_nan(route, scale):
    q = torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    k = torch.nn.functional.normalize(torch.randn(2, 4), dim=1).requires_grad_()
    rows, columns = pairwise_logsumexp(q, k, scale, exclude=(0, 1, -1), columns=True, impl="triton")
    assert rows.isneginf().tolist() == [True, True, False]
    assert columns.isneginf().tolist() == [False, True]
    dq, dk = torch.autograd.grad(rows.sum() + columns.sum(), (q, k))
    expected = torch.zeros(3, 4)
    expected[2] = 2 * scale * k[0].detach()
    torch.testing.assert_close(dq, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(dk[1], torch.zeros(4))

    bad = torch.randn(40, 4)
    bad[20, 1] = float("nan")
    rows, columns = pairwise_logsumexp(bad, torch.randn(30, 4), scale, columns=True, impl="triton")
    assert rows.isnan().nonzero().flatten().tolist() == [20]
    assert columns.isnan().all()


def test_bitwise_repeatable(route):
    q = torch.randn(200, 8, requires_grad=True)

    def run():
        rows = pairwise_logsumexp(q, q, 0.3, exclude=(0,), impl="triton")
        return rows, torch.autograd.grad(rows.sum(), q)[0]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)
