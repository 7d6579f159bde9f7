"""The public function: its contract, its checks, and the choice of implementation."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import HAS_CUDA_EXTENSION, HAS_EXTENSION, extension
from .op import PairwiseLogSumExp
from .reference import pairwise_logsumexp_reference

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton", "cuda")
HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def pairwise_logsumexp(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    *,
    exclude: Sequence[int] = (),
    columns: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Row (and column) log-sum-exp of ``scale · q kᵀ``, whose n × m scores are never stored.

    ``rows[i] = log Σ_j exp(scale · ⟨q_i, k_j⟩)``, over all j but those on an excluded diagonal;
    ``columns[j]`` the same over i. Every contrastive loss is this minus its positives.
    Where ``k is q`` and ``exclude`` contains ``-o`` for each ``o``, the scores are symmetric and
    about half of the work is saved.

    Args:
        q: (n, d), float16, bfloat16, float32 or float64, any strides; n, d ≥ 1.
        k: (m, d), dtype and device of ``q``; m ≥ 1.
        scale: number or one-element tensor, of any sign; the inverse temperature.
        exclude: diagonals to leave out, as offsets ``j - i``; ``(0,)`` leaves out each row's own
            entry. An entry with nothing left is ``-inf`` and passes no gradient.
        columns: also return the column log-sum-exp, from the same pass.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, tile by tile); ``"cuda"`` (CUDA C++ passes) and
            ``"reference"`` (materialises the scores) are used only when named.

    Returns:
        ``rows`` (n,), or ``(rows, columns)`` with ``columns`` (m,), in float32 (float64 for float64
        inputs), whatever autocast says. Differentiable once in q, k and scale; gradients have the
        inputs' dtypes. A NaN in an input gives NaN in each result that depends on it.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, an unknown ``impl``, or one that does not run
            on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    _check(q, k, exclude)
    impl = _choose(impl, q)
    exclude = sorted(set(exclude))
    scale = _as_scalar(scale, q)
    if impl == "reference":
        return pairwise_logsumexp_reference(q, k, scale, exclude, columns)
    if k is q and exclude == sorted(-offset for offset in exclude):
        rows, _ = PairwiseLogSumExp.apply(q, None, scale, exclude, False, impl)
        return (rows, rows) if columns else rows
    rows, column_results = PairwiseLogSumExp.apply(q, k, scale, exclude, columns, impl)
    return (rows, column_results) if columns else rows


def _check(q: Tensor, k: Tensor, exclude: Sequence[int]) -> None:
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {x.dtype}")
        if x.dim() != 2 or 0 in x.shape:
            raise ValueError(f"{name} must have two non-empty dimensions, got {tuple(x.shape)}")
    if q.shape[1] != k.shape[1]:
        raise ValueError(
            f"q (n, d) and k (m, d) must agree in d, got q {tuple(q.shape)} and k {tuple(k.shape)}"
        )
    if q.dtype != k.dtype:
        raise TypeError(f"q and k must have one dtype, got {q.dtype} and {k.dtype}")
    if q.device != k.device:
        raise ValueError(f"q and k must be on one device, got {q.device} and {k.device}")
    if not all(isinstance(offset, int) for offset in exclude):
        raise TypeError(f"exclude must hold integers (offsets j - i), got {exclude!r}")


def _as_scalar(scale: float | Tensor, q: Tensor) -> Tensor:
    if not isinstance(scale, Tensor):
        return q.new_full((), scale, dtype=torch.promote_types(q.dtype, torch.float32))
    if scale.numel() != 1 or not scale.is_floating_point():
        raise ValueError(
            "scale must be a number or a floating-point tensor with one element, "
            f"got shape {tuple(scale.shape)} of {scale.dtype}"
        )
    return scale.reshape(()).to(q.device)


def _choose(impl: str, q: Tensor) -> str:
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}")
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
        extension(cuda=impl == "cuda")  # says what is missing
    if impl == "triton" and not HAS_TRITON:
        raise RuntimeError("impl='triton' needs the triton package: pip install triton")
    return impl
