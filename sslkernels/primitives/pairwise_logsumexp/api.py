"""The public function: its contract, its checks, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from torch import Tensor

from ..._checks import check_flags
from ...distributed import Gather
from .._arguments import IMPLEMENTATIONS, across_ranks, check, choose, scalar_tensor
from .op import PairwiseLogSumExp
from .reference import pairwise_logsumexp_reference


@overload
def pairwise_logsumexp(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    *,
    exclude: Sequence[int] = (),
    columns: Literal[False] = False,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor: ...


@overload
def pairwise_logsumexp(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    *,
    exclude: Sequence[int] = (),
    columns: Literal[True],
    gather: Gather | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def pairwise_logsumexp(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    *,
    exclude: Sequence[int] = (),
    columns: bool = False,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Row (and column) log-sum-exp of ``scale · q kᵀ``, whose n × m scores are never stored.

    ``rows[i] = log Σ_j exp(scale · ⟨q_i, k_j⟩)`` over all j except those on an excluded diagonal;
    ``columns[j]`` is the same over i. Every contrastive loss is this minus its positives.
    If ``k is q`` and ``exclude`` contains ``-o`` for each ``o``, the scores are symmetric and
    about half of the work is saved.

    Args:
        q: (n, d), float16, bfloat16, float32 or float64, any strides; n, d ≥ 1.
        k: (m, d), dtype and device of ``q``; m ≥ 1.
        scale: number or one-element tensor, of any sign; the inverse temperature.
        exclude: diagonals to leave out, as offsets ``j - i``; ``(0,)`` leaves out each row's own
            entry. A row or column with no entries left is ``-inf`` and passes no gradient.
        columns: also return the column log-sum-exp, from the same pass.
        gather: the ranks that share the problem: ``q`` and ``k`` are this rank's rows of it, sums
            run over all ranks, and ``exclude`` applies to the rank's own block.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, tile by tile); ``"cuda"`` (CUDA C++ passes) and
            ``"reference"`` (materialises the scores) are used only when named.

    Returns:
        ``rows`` (n,), or ``(rows, columns)`` with ``columns`` (m,), in float32 (float64 for float64
        inputs), regardless of autocast. Differentiable once in q, k and scale; gradients have the
        inputs' dtypes. A NaN in an input gives NaN in each result that depends on it.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, an unknown ``impl``, or one that does not run
            on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    exclude = check(q, k, exclude)
    impl = choose(impl, IMPLEMENTATIONS, q)
    check_flags(columns=columns)
    scale = scalar_tensor("scale", scale, q)
    ranks = across_ranks(gather, impl)
    if impl == "reference":
        return pairwise_logsumexp_reference(q, k, scale, exclude, columns)
    if k is q and exclude == sorted(-offset for offset in exclude):
        rows, _ = PairwiseLogSumExp.apply(q, None, scale, exclude, False, impl, ranks)
        return (rows, rows) if columns else rows
    rows, column_results = PairwiseLogSumExp.apply(q, k, scale, exclude, columns, impl, ranks)
    return (rows, column_results) if columns else rows
