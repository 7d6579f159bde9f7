"""The public function: checks, and the choice of implementation."""

from __future__ import annotations

from torch import Tensor

from ..._checks import check_flags, shown
from ...distributed import Gather, rows_of_all_ranks
from .._arguments import across_ranks, check_directions, check_samples, choose
from .kernels import MOST_KNOTS
from .op import SlicedEppsPulley
from .quadrature import Quadrature
from .reference import sliced_epps_pulley_reference

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton")
LE_JEPA = Quadrature.trapezoid(33)


def sliced_epps_pulley(
    z: Tensor,
    directions: Tensor,
    quadrature: Quadrature = LE_JEPA,
    *,
    scaled: bool = True,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""The distance of projected samples from a standard normal distribution, per direction.

    The statistic of Epps and Pulley (Biometrika 70, 1983) for each direction a, which LeJEPA
    (Balestriero and LeCun 2025, arXiv:2511.08544) averages over random directions: with
    p_n = ⟨z_n, a⟩ and the knots t_k and weights w_k of a quadrature::

        N Σ_k w_k [(mean_n cos t_k p_n − e^(−t_k²/2))² + (mean_n sin t_k p_n)²].

    No samples × directions array is stored, nor one of × knots: the sums over samples are kept,
    and the backward pass recomputes the projections.

    Args:
        z: (N, D), or (…, N, D), where each (N, D) is a separate set of samples; float16, bfloat16,
            float32 or float64, any strides.
        directions: (D, M), dtype and device of ``z``; usually unit vectors. Not differentiated.
        quadrature: knots and weights; by default LeJEPA's 17 knots over [0, 3].
        scaled: include the factor N, with which the distribution of the statistic does not depend
            on N.
        gather: the ranks whose rows are included. Statistics are those of the global sets of
            samples; ranks exchange sums only, M × knots × 2 for each set.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, some rows at a time), which also stands in for
            them beyond 64 knots; ``"reference"`` (stores samples × directions × knots) is used only
            when named.

    Returns:
        (…, M), in float32 (float64 for float64 inputs), regardless of autocast; differentiable once
        in z. Angles t p are accurate to float32's precision up to 1e5 and finite beyond.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, directions that require a gradient, an
            unknown ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    check_samples(z)
    check_directions(z, directions)
    check_flags(scaled=scaled)
    if not isinstance(quadrature, Quadrature):
        raise TypeError(f"quadrature must be a sslkernels.Quadrature, got {shown(quadrature)}")
    impl = choose(impl, IMPLEMENTATIONS, z)
    ranks = across_ranks(gather, impl)
    if impl == "reference":
        return sliced_epps_pulley_reference(z, directions, quadrature, scaled)
    if len(quadrature.weights) > MOST_KNOTS:
        impl = "tiled"
    sets = z.reshape(-1, *z.shape[-2:])
    statistics, _ = SlicedEppsPulley.apply(
        sets, directions, quadrature.step, list(quadrature.weights), impl, ranks
    )
    if not scaled:
        statistics = statistics / (z.shape[-2] if not ranks else rows_of_all_ranks(sets[0], gather))
    return statistics.view(*z.shape[:-2], -1) if z.dim() != 3 else statistics
