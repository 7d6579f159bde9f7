"""Argument checks of the primitives, and the choice of implementation."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_choice, check_devices, check_scalars, check_tensors, shown
from .._ext import HAS_CUDA_EXTENSION, HAS_EXTENSION, extension
from .._operator import accumulation_dtype
from ..distributed import Gather, Ranks, ranks_of

MOST_ROWS = 1 << 62
HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton", "cuda")


def check_tensor(name: str, x: Tensor, dimensions: Sequence[int] = (2,)) -> None:
    """Raise unless x is a floating-point tensor with one of these numbers of dimensions."""
    check_tensors(**{name: x})
    if x.dim() not in dimensions or 0 in x.shape:
        numbers = " or ".join({2: "two", 3: "three"}[d] for d in dimensions)
        raise ValueError(f"{name} must have {numbers} non-empty dimensions, got {tuple(x.shape)}")


def check(q: Tensor, k: Tensor, exclude: Sequence[int]) -> list[int]:
    """Raise unless q (n, d) and k (m, d) fit; return the unique offsets in ``exclude``."""
    check_tensor("q", q)
    check_tensor("k", k)
    if q.shape[1] != k.shape[1]:
        raise ValueError(
            f"q (n, d) and k (m, d) must agree in d, got q {tuple(q.shape)} and k {tuple(k.shape)}"
        )
    if q.dtype != k.dtype:
        raise TypeError(f"q and k must have one dtype, got {q.dtype} and {k.dtype}")
    if q.device != k.device:
        raise ValueError(f"q and k must be on one device, got {q.device} and {k.device}")
    if not isinstance(exclude, Sequence) or not all(isinstance(x, int) for x in exclude):
        raise TypeError(f"exclude must be a list of integers (offsets j - i), got {shown(exclude)}")
    return sorted({x for x in exclude if abs(x) < MOST_ROWS})  # others are outside every matrix


def check_samples(z: Tensor) -> None:
    """Check for floating-point samples (…, N, D)."""
    check_tensors(z=z)
    if z.dim() < 2 or 0 in z.shape:
        raise ValueError(f"z must be (…, N, D), no dimension of which is 0; got {tuple(z.shape)}")


def check_directions(z: Tensor, directions: Tensor) -> None:
    """Check for directions (D, M), without gradient, that fit samples (…, N, D)."""
    check_tensors(directions=directions)
    if directions.dim() != 2 or 0 in directions.shape or directions.shape[0] != z.shape[-1]:
        raise ValueError(
            f"directions must be (D, M) with D = {z.shape[-1]} and M at least 1, "
            f"got {tuple(directions.shape)}"
        )
    if z.dtype != directions.dtype:
        raise TypeError(
            f"z and directions must have one dtype, got {z.dtype} and {directions.dtype}"
        )
    check_devices(z=z, directions=directions)
    if directions.requires_grad and torch.is_grad_enabled():
        raise ValueError("directions get no gradient: give directions.detach()")


def scalar_tensor(name: str, value: float | Tensor, q: Tensor) -> Tensor:
    """A 0-dim tensor on the device of q; a number in the dtype of computation for q."""
    if not (isinstance(value, float) and (value != value or abs(value) == math.inf)):
        check_scalars(**{name: value})
    if not isinstance(value, Tensor):
        return q.new_full((), value, dtype=accumulation_dtype(q))
    return value.reshape(()).to(q.device)


def on_device_of(number: float, like: Tensor) -> Tensor:
    """A tensor () float64; under torch.compile, it does not specialise on the number."""
    return like.new_ones((), dtype=torch.float64) * number  # only a product keeps it symbolic


def across_ranks(gather: Gather | None, impl: str) -> Ranks | tuple[()]:
    """The ranks as arguments of an operator; empty if there are no others."""
    ranks = ranks_of(gather)
    if ranks is None:
        return ()
    if impl == "reference":
        raise ValueError("impl='reference' is for one process; with gather use impl='tiled'")
    return ranks


def choose(impl: str, implementations: Sequence[str], q: Tensor) -> str:
    """The implementation that ``impl`` means for q; raises if it does not support q."""
    check_choice("impl", impl, implementations)
    device = q.device.type
    if impl == "auto":
        if q.dtype == torch.float64:
            return "tiled"
        if device == "cuda" and HAS_TRITON:
            return "triton"
        return "cpu" if device == "cpu" and HAS_EXTENSION else "tiled"
    if impl in ("cpu", "triton", "cuda") and q.dtype == torch.float64:
        raise ValueError(
            f"impl={impl!r} computes in float32; for float64 use impl='tiled' or 'auto'"
        )
    needed = {"cpu": "cpu", "triton": "cuda", "cuda": "cuda"}.get(impl, device)
    if device != needed and not (impl == "triton" and INTERPRETED):
        raise ValueError(f"impl={impl!r} runs on {needed} tensors, got tensors on {device}")
    if (impl == "cpu" and not HAS_EXTENSION) or (impl == "cuda" and not HAS_CUDA_EXTENSION):
        extension(cuda=impl == "cuda")  # raises with what is missing
    if impl == "triton" and not HAS_TRITON:
        raise RuntimeError("impl='triton' needs the triton package: pip install triton")
    return impl
