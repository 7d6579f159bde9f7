"""The public functions: their contract and their checks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import INTEGERS, MOST_ITERATIONS, check_integers, check_positive, shown
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather
from .._arguments import across_ranks, check_tensor, choose, on_device_of
from .._prototypes import check_prototypes
from .op import sinkhorn_op
from .prototype_op import prototype_sinkhorn_op

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton", "cuda")


def sinkhorn(
    logits: Tensor,
    epsilon: float = 0.05,
    iterations: int = 3,
    *,
    rows: Tensor | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""The centre with which a softmax is the Sinkhorn-Knopp assignment of samples to prototypes.

    ``softmax((logits − center) / epsilon, −1)`` is the transport plan. Starting from
    ``exp(logits / epsilon)``, each of ``iterations`` rescales every prototype to the same mass over
    all samples, then every sample to mass 1. Only the scaling of the prototypes is kept, as
    logarithms, so nothing overflows; the plan itself is never stored.

    Args:
        logits: (N, K), scores of N samples with K prototypes, or (C, N, K), C independent problems
            (CAPI has one per position); float16, bfloat16, float32 or float64, any strides.
        epsilon: the temperature of the plan, above 0.
        iterations: at least 1.
        rows: an integer tensor on the device of ``logits``: only the first so many of the N
            samples of each problem count, and the contents of the others do not matter. The host
            does not read it if that would synchronise. None: all.
        gather: the ranks whose samples form one batch; their numbers may differ. One collective
            per iteration. The result is the same on every rank.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, some rows at a time); ``"cuda"`` (CUDA C++) and
            ``"reference"`` (materialises the plan's logarithms) are used only when named.

    Returns:
        The centre, (K,) or (C, K), in units of the logits, in float32 (float64 for float64 logits)
        regardless of autocast. No gradient. Adding a constant to it does not change the plan. A NaN
        gives NaN in its prototype, and in all from the second iteration on. A prototype without
        any mass has centre 0.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape or device that does not fit, a number out of range, an unknown ``impl``,
            or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.

    SwAV (Caron et al. 2020, arXiv:2006.09882), DINOv2 (Oquab et al. 2023, arXiv:2304.07193), CAPI
    (Darcet et al. 2025, arXiv:2502.08769).
    """
    check_tensor("logits", logits, (2, 3))
    check_settings(epsilon, iterations)
    rows = check_rows(rows, logits)
    impl = choose(impl, IMPLEMENTATIONS, logits)
    ranks = across_ranks(gather, impl)
    groups = logits.detach() if logits.dim() == 3 else logits.detach()[None]
    center = sinkhorn_op(groups, *_known(epsilon, logits), iterations, rows, impl, *ranks)
    return center if logits.dim() == 3 else center[0]


def prototype_sinkhorn(
    features: Tensor,
    prototypes: Tensor,
    epsilon: float = 0.05,
    iterations: int = 3,
    *,
    magnitude: Tensor | None = None,
    rows: Tensor | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r""":func:`sslkernels.sinkhorn` of logits ``features @ prototypesᵀ``, which are never stored.

    Logits are computed in chunks, once per iteration; with ``gather`` once more for each iteration
    but the last.

    Args:
        features: (N, D), of N samples; float16, bfloat16, float32 or float64.
        prototypes: (K, D), of any of these dtypes; multiplied in that of the features.
        epsilon, iterations, rows, gather, impl: see :func:`sslkernels.sinkhorn`.
        magnitude: (K,) or (K, 1), for weight normalisation, ``magnitude · prototypes /
            ‖prototypes‖`` by row, as in ``torch.nn.utils.weight_norm`` (its ``weight_g``). None: no
            weight normalisation.

    Returns:
        The centre, (K,), in float32 (float64 for float64 features). No gradient.

    Raises:
        TypeError, ValueError, RuntimeError: see :func:`sslkernels.sinkhorn`.
    """
    check_tensor("features", features)
    own = check_prototypes("features", features, "prototypes", prototypes, magnitude)
    check_settings(epsilon, iterations)
    rows = check_rows(rows, features)
    impl = choose(impl, IMPLEMENTATIONS, features)
    ranks = across_ranks(gather, impl)
    features, own = features.detach(), own.detached()
    options = *_known(epsilon, features), iterations, rows, impl, *ranks
    if impl == "reference":
        dtype = accumulation_dtype(features)
        with full_precision(features):
            logits = features.to(dtype) @ own.part(slice(None), dtype).T
        return sinkhorn_op(logits[None], *options)[0]
    return prototype_sinkhorn_op(features, *own, *options)[0]


def _known(epsilon: float, like: Tensor) -> tuple[Tensor | None, float]:
    """The number; a tensor under torch.compile, which would otherwise specialise on the number."""
    if torch.compiler.is_compiling():
        return on_device_of(epsilon, like), 1.0
    return None, float(epsilon)


def check_settings(epsilon: float, iterations: int) -> None:
    """Raise unless epsilon is above 0 and iterations at least 1."""
    check_positive(epsilon=epsilon)
    check_integers(1, MOST_ITERATIONS, iterations=iterations)


def check_rows(rows: Tensor | None, x: Tensor) -> Tensor | None:
    """rows as a 0-dim tensor; None stays None."""
    if rows is None:
        return None
    if not isinstance(rows, Tensor) or rows.dtype not in INTEGERS:
        raise TypeError(f"rows must be a torch.Tensor with an integer or None, got {shown(rows)}")
    if rows.numel() != 1:
        raise ValueError(f"rows must have one element, got {tuple(rows.shape)}")
    if rows.device != x.device:
        raise ValueError(f"rows must be on {x.device} like the samples, got {rows.device}")
    return rows.reshape(())
