"""The model of an H100: properties of every prediction."""

import os

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

from bench.model.__main__ import nearest, rows_forward  # noqa: E402
from bench.model.parts import ROOF, dealt  # noqa: E402
from bench.model.slices import sigreg  # noqa: E402


def test_programs_are_dealt_to_the_first_free_slot():
    assert dealt([1.0] * 4, 2) == 2.0
    assert dealt([3.0, 1.0, 1.0, 1.0], 2) == 3.0


@pytest.mark.parametrize("part", [
    lambda: nearest(8192, 8192, 128), lambda: rows_forward(8192, 8192, 512)
], ids=["a whole depth", "in pieces"])  # fmt: skip
def test_no_prediction_beats_the_tensor_cores(part):
    found = part()
    assert found.flops == 2 * 8192 * 8192 * (128 if "nearest" in found.name else 512)
    assert found.flops / ROOF <= found.ms / 1e3 < 10 * found.flops / ROOF


def test_no_prediction_beats_the_float32_pipes():
    sums, _, gradient = sigreg(8, 2048, 128, 1024, 16)
    for part in (sums, gradient):
        assert 0.5 < part.of_roof < 1
