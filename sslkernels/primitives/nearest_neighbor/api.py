"""The public function: its contract and its checks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..._checks import check_choice, check_integers
from .._arguments import IMPLEMENTATIONS, check
from .op import nearest_neighbor_op


def nearest_neighbor(
    q: Tensor,
    k: Tensor,
    topk: int = 1,
    *,
    exclude: Sequence[int] = (),
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    r"""The ``topk`` largest inner products of each row of q with rows of k, and their indices.

    ``similarities[i, 0] = max_j ⟨q_i, k_j⟩`` over all j except those on an excluded diagonal, and
    so on in descending order; the n × m products are never stored. Of equal products the smallest
    index comes first. A NaN ranks above every number, as in ``torch.topk``. An entry of ``-inf``
    counts as excluded.

    Args:
        q: (n, d), float16, bfloat16, float32 or float64, any strides; n, d ≥ 1.
        k: (m, d), dtype and device of ``q``; m ≥ 1.
        topk: number of neighbours, 1..m.
        exclude: diagonals to leave out, as offsets ``j - i``; ``(0,)`` leaves out each row's own
            entry.
        impl: ``"auto"`` is ``"cpu"`` (C++) on the CPU, if it is built; on CUDA it is ``"triton"``
            (fused) for a single neighbour where tensor cores can be used: half precision up to d =
            512, float32 up to d = 256 with TF32 allowed, at most 4 diagonals; otherwise, and for
            float64, ``"tiled"`` (torch, tile by tile). ``"reference"`` (materialises the products)
            is used only when named.

    Returns:
        ``similarities`` (n, topk), in float32 (float64 for float64 inputs) regardless of autocast,
        and ``indices`` (n, topk), int64, in order of descending similarity. If fewer than topk
        entries remain: similarity ``-inf``, index -1. Neither carries a gradient: to
        differentiate, recompute the similarity of the neighbour,
        ``(q * k[indices[:, 0]]).sum(1)``.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, ``topk`` out of range, an unknown ``impl``,
            or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.

    The nearest neighbours of NNCLR (Dwibedi et al. 2021, arXiv:2104.14548) and KoLeo (Sablayrolles
    et al. 2019, arXiv:1806.03198), and of the kNN classifier (Wu et al. 2018, arXiv:1805.01978).
    """
    exclude = check(q, k, exclude)
    check_integers(1, topk=topk)
    check_choice("impl", impl, IMPLEMENTATIONS)
    if not 1 <= topk <= k.shape[0]:
        raise ValueError(f"topk must be in 1..{k.shape[0]}, the rows of k; got {topk}")
    return nearest_neighbor_op(q.detach(), k.detach(), topk, exclude, impl)
