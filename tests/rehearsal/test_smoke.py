import pytest
from torch import Tensor

from bench.rehearsal import smoke
from bench.rehearsal.device import ANSWERS


def test_another_torch_is_told_so(monkeypatch):
    smoke.check()
    monkeypatch.delitem(ANSWERS, Tensor.is_cuda.__get__)
    with pytest.raises(RuntimeError, match="no longer true: and for x.is_cuda"):
        smoke.check()
