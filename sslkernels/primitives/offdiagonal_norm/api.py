"""The public function: its contract, its checks, and the choice of implementation."""

from __future__ import annotations

from torch import Tensor

from ..._checks import check_choice
from ..._operator import accumulation_dtype
from ...distributed import Gather
from .._arguments import across_ranks, check_tensor, choose
from .columns import Standardized
from .op import OffdiagonalNorm
from .reference import offdiagonal_norm_reference
from .routes import choose as choose_route
from .views import NormsOfViews

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton")


def offdiagonal_norm(
    a: Tensor,
    b: Tensor | None = None,
    *,
    columns: str | Standardized = "raw",
    gather: Gather | None = None,
    impl: str = "auto",
    route: str = "auto",
) -> tuple[Tensor, Tensor]:
    r"""``Σ_{i≠j} C_ij²`` and ``diag C`` of the cross-product ``C = âᵀ b̂`` of two sets of features.

    The common part of Barlow Twins, VICReg and similar losses. C is d × d, and neither the sum nor
    its gradient needs it: ``Σ C² = ⟨â âᵀ, b̂ b̂ᵀ⟩``, where both matrices are n × n.

    Args:
        a: (n, d), n samples of d features; float16, bfloat16, float32 or float64, any strides.
        b: (n, d), dtype and device of ``a``; None: ``a`` itself.
        columns: the transformation of a and b to â and b̂: ``"raw"``, none; ``"centered"``, the
            mean of each feature subtracted; ``"standardized"``, also divided by its standard
            deviation, as in batch normalisation, or as given by a
            :class:`sslkernels.Standardized`. Gradients pass through means and deviations.
        gather: the ranks that share the batch: a and b are this rank's rows of it, results and
            statistics are those of the global batch.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, some columns at a time); ``"reference"`` (stores
            C) is used only when named.
        route: ``"sample"`` computes the Gram matrices, with work ∝ n² d, and keeps n² numbers;
            ``"feature"`` computes C, with work ∝ n d²: for d ≤ n as a whole, which may be kept,
            otherwise in pieces, none of which is kept. ``"auto"``: the sample route for n ≤ 3d/4.
            Above that it would cost more, and be inaccurate for decorrelated features, as it
            subtracts the diagonal from all of Σ C².

    Returns:
        The sum, a scalar, and the diagonal, (d,), in float32 (float64 for float64 inputs),
        regardless of autocast; differentiable once. All ranks get the same results.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, an unknown ``columns``, ``route`` or
            ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    _check(a, b, route)
    kind, numbers = _kind(columns)
    impl = choose(impl, IMPLEMENTATIONS, a)
    ranks = across_ranks(gather, impl)
    if impl == "reference":
        return offdiagonal_norm_reference(a, b, kind, numbers)
    return OffdiagonalNorm.apply(a, b, kind, numbers, impl, route, ranks)[:2]


def norms_of_views(
    a: Tensor,
    b: Tensor,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
    route: str = "auto",
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """:func:`offdiagonal_norm` of a with itself, that of b, both centred, and ``Σ (a − b)²``.

    The distance is that of this rank's rows. Arguments and errors as for :func:`offdiagonal_norm`.
    """
    _check(a, b, route)
    impl = choose(impl, IMPLEMENTATIONS, a)
    ranks = across_ranks(gather, impl)
    if impl == "reference":
        of_a, of_b = (offdiagonal_norm_reference(x, None, "centered", []) for x in (a, b))
        dtype = accumulation_dtype(a)
        return of_a, of_b, (a.to(dtype) - b.to(dtype)).square().sum()
    results = NormsOfViews.apply(a, b, impl, route, ranks)
    norm_a, diagonal_a, _, _, norm_b, diagonal_b, _, _, distance = results
    return (norm_a, diagonal_a), (norm_b, diagonal_b), distance


def _check(a: Tensor, b: Tensor | None, route: str) -> None:
    check_tensor("a", a)
    if b is not None:
        check_tensor("b", b)
        if a.shape != b.shape or a.device != b.device:
            raise ValueError(
                "a and b must have the same shape (n, d) and device, got "
                f"{tuple(a.shape)} on {a.device} and {tuple(b.shape)} on {b.device}"
            )
        if a.dtype != b.dtype:
            raise TypeError(f"a and b must have one dtype, got {a.dtype} and {b.dtype}")
    choose_route(route, *a.shape)


def _kind(columns: str | Standardized) -> tuple[str, list[float]]:
    if isinstance(columns, Standardized):
        return "standardized", columns.numbers()
    check_choice("columns", columns, ("raw", "centered", "standardized"))
    return columns, Standardized().numbers() if columns == "standardized" else []
