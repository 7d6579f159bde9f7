import os

import pytest
import torch

# Triton reads the variable when a kernel is defined, so these tests need a separate process, which
# tests/test_interpreter.py starts.
collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _faster(monkeypatch):
    import faster

    monkeypatch.setattr(faster.InterpretedFunction, "__call__", faster.call)
    monkeypatch.setattr(faster.ReduceOps, "generic_reduce", faster.reduce)
    monkeypatch.setattr(faster.InterpreterBuilder, "create_dot", faster.create_dot)


@pytest.fixture
def fused_float32(monkeypatch):
    """Float32 uses the fused kernels in full precision; test_tf32.py covers TF32."""
    from sslkernels.primitives import _triton
    from sslkernels.primitives.nearest_neighbor import triton as nearest_neighbor
    from sslkernels.primitives.offdiagonal_norm import triton as offdiagonal_norm

    for module in (_triton, nearest_neighbor, offdiagonal_norm):
        monkeypatch.setattr(module, "tensor_cores", lambda x: True)


@pytest.fixture(params=["fused", "by products"])
def route(request):
    """Fused kernels; or matrix products and tile passes, as for float32 without TF32."""
    from sslkernels.primitives._triton import fuses

    if request.param == "fused":
        request.getfixturevalue("fused_float32")
    assert fuses(torch.ones(2, 8), ()) == (request.param == "fused")
    return request.param
