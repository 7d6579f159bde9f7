"""The public function: its contract, its checks, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...distributed import Gather
from .._arguments import across_ranks, check, choose, scalar_tensor
from .op import PairwiseSoftplus
from .reference import pairwise_softplus_reference

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton")


def pairwise_softplus(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    *,
    exclude: Sequence[int] = (),
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""Row sums of ``softplus(scale · q kᵀ + bias)``, whose n × m entries are never stored.

    ``rows[i] = Σ_j log(1 + exp(scale · ⟨q_i, k_j⟩ + bias))`` over all j except those on an excluded
    diagonal. Without its positives this is the sigmoid loss of SigLIP (arXiv:2303.15343): a
    negative pair with logit s costs softplus(s), a positive one softplus(-s) = softplus(s) - s.

    Args:
        q: (n, d), float16, bfloat16, float32 or float64, any strides; n, d ≥ 1.
        k: (m, d), dtype and device of ``q``; m ≥ 1.
        scale: number or one-element tensor, of any sign; the inverse temperature.
        bias: number or one-element tensor, of any sign.
        exclude: diagonals to leave out, as offsets ``j - i``; ``(0,)`` leaves out each row's own
            entry. A row with no entries left is 0 and passes no gradient.
        gather: the ranks that share the problem: ``q`` and ``k`` are this rank's rows of it, sums
            run over all ranks' k, and ``exclude`` applies to the rank's own block.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, tile by tile); ``"reference"`` (materialises
            the scores) is used only when named.

    Returns:
        (n,), in float32 (float64 for float64 inputs), regardless of autocast. Differentiable once
        in q, k, scale and bias; gradients have the inputs' dtypes. A NaN in an input gives NaN in
        each result that depends on it.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, an unknown ``impl``, or one that does not run
            on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    exclude = check(q, k, exclude)
    impl = choose(impl, IMPLEMENTATIONS, q)
    scale, bias = scalar_tensor("scale", scale, q), scalar_tensor("bias", bias, q)
    ranks = across_ranks(gather, impl)
    if impl == "reference":
        return pairwise_softplus_reference(q, k, scale, bias, exclude)
    return PairwiseSoftplus.apply(q, k, scale, bias, exclude, impl, ranks)
