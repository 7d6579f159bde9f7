import os

import pytest
import torch

# Triton reads the variable when a kernel is defined, so these tests need a process of their own:
# tests/test_interpreter.py starts it.
collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(params=["fused", "by products"])
def route(request):
    """Fused kernels, as for float32 where TF32 is allowed; or matrix products and tile passes."""
    from sslkernels.primitives._tile_table import BACKWARD
    from sslkernels.primitives._triton import fuses

    precision = "tf32" if request.param == "fused" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    assert fuses(torch.ones(2, 8), (), BACKWARD) == (request.param == "fused")
    yield request.param
    torch.backends.cuda.matmul.fp32_precision = "ieee"
