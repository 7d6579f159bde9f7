"""The tiles for each GPU."""

import warnings

import pytest
import torch

from sslkernels.primitives import _tile_table
from sslkernels.primitives._tile_table import BACKWARD, DEEP, FORWARD, PRODUCTS, ROWS, WEIGHTS

DEVICE = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    def of(capability):
        _tile_table.architecture.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
        return _tile_table.architecture(DEVICE)

    yield of
    _tile_table.architecture.cache_clear()


@pytest.mark.parametrize("capability, expected", [
    ((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 9), "sm_86"), ((9, 0), "sm_90"),
    ((10, 0), "sm_100"), ((12, 0), "sm_86"),
])  # fmt: skip
def test_listed(gpu, capability, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gpu(capability) == expected


@pytest.mark.parametrize("capability, expected", [
    ((10, 3), "sm_100"), ((12, 1), "sm_86"), ((13, 0), "sm_86"), ((7, 5), "sm_86"),
])  # fmt: skip
def test_not_listed_is_said_once(gpu, capability, expected):
    with pytest.warns(UserWarning, match=f"A GPU.*{'.'.join(map(str, capability))}.*{expected}"):
        assert gpu(capability) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _tile_table.architecture(DEVICE) == expected


def test_every_table_has_every_architecture():
    architectures = set(_tile_table.LISTED.values())
    for table in (FORWARD, BACKWARD, ROWS, DEEP, WEIGHTS, PRODUCTS):
        assert table.keys() == architectures
        assert all(tiles.keys() == {2, 4} for tiles in table.values())
