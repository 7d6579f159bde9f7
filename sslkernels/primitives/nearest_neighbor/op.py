"""The operator as torch sees it: schema, fake, and the choice among its implementations."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from ..._ext import HAS_EXTENSION, extension
from . import tiles

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton")
HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_library = torch.library.Library("sslkernels", "FRAGMENT")
_library.define(
    "nearest_neighbor(Tensor q, Tensor k, SymInt topk, int[] exclude, str impl)"
    " -> (Tensor similarities, Tensor indices)"
)


def _forward(
    q: Tensor, k: Tensor, topk: int, exclude: Sequence[int], impl: str
) -> tuple[Tensor, Tensor]:
    implementation = import_module(f".{_choose(impl, q, topk, exclude)}", __package__)
    # what autocast would lower is float32 here, and kernels launch on the tensor's device
    with torch.autocast(q.device.type, enabled=False), torch.no_grad(), torch.cuda.device_of(q):
        return implementation.forward(q, k, topk, exclude)


def _fake(q, k, topk, exclude, impl):
    dtype = torch.promote_types(q.dtype, torch.float32)
    shape = (q.shape[0], topk)
    return q.new_empty(shape, dtype=dtype), q.new_empty(shape, dtype=torch.int64)


def _choose(impl: str, q: Tensor, topk: int, exclude: Sequence[int]) -> str:
    """Here and not in api.py, as torch.compile cannot trace whether TF32 is allowed."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}")
    device = q.device.type
    if impl == "auto":
        if device == "cuda" and HAS_TRITON and not tiles.obstacle(q, topk, exclude):
            return "triton"
        plain = device != "cpu" or not HAS_EXTENSION or q.dtype == torch.float64
        return "tiled" if plain else "cpu"
    needed = {"cpu": "cpu", "triton": "cuda"}.get(impl, device)
    if device != needed and not (impl == "triton" and INTERPRETED):
        raise ValueError(f"impl={impl!r} runs on {needed} tensors, got tensors on {device}")
    if impl in ("cpu", "triton") and q.dtype == torch.float64:
        raise ValueError(
            f"impl={impl!r} computes in float32; for float64 use impl='tiled' or 'auto'"
        )
    if impl == "cpu" and not HAS_EXTENSION:
        extension()  # says what is missing
    if impl == "triton":
        if not HAS_TRITON:
            raise RuntimeError("impl='triton' needs the triton package: pip install triton")
        if reason := tiles.obstacle(q, topk, exclude):
            raise ValueError(f"impl='triton' {reason}; use impl='tiled' or 'auto'")
    return impl


for _key in ("CPU", "CUDA"):
    _library.impl("nearest_neighbor", _forward, _key)
torch.library.register_fake("sslkernels::nearest_neighbor", _fake, lib=_library)

nearest_neighbor_op = torch.ops.sslkernels.nearest_neighbor.default
