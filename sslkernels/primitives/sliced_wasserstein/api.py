"""The public function: its contract, its checks, and the choice of implementation."""

from __future__ import annotations

from torch import Tensor

from .._arguments import check_directions, check_samples, choose
from .op import fused
from .reference import sliced_wasserstein_reference

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu")


def sliced_wasserstein(z: Tensor, directions: Tensor, *, impl: str = "auto") -> Tensor:
    r"""The distance of projected samples from a normal distribution, by sorting them.

    With Φ⁻¹ the quantile function of the standard normal distribution and ``p_(1) ≤ … ≤ p_(N)`` the
    sorted projections of a set of N samples on a direction, the mean over sets, directions and
    positions i of::

        (p_(i) − Φ⁻¹(i / (N + 1)))²

    This is the squared Wasserstein distance between two distributions of N points each. The
    gradient is computed together with the value, for a block of directions at a time: the
    projections of all samples on all directions are never stored.

    Args:
        z: (N, D), or (…, N, D), where each (N, D) is a separate set of samples; float16, bfloat16,
            float32 or float64, any strides.
        directions: (D, M), dtype and device of ``z``; usually unit vectors, drawn by
            :func:`sslkernels.random_directions`. Not differentiated.
        impl: ``"auto"`` is ``"cpu"`` (C++) on the CPU, if it is built, for up to 32-bit floats;
            else ``"tiled"`` (torch, some directions at a time). ``"reference"`` (stores the
            projections) is used only when named.

    Returns:
        A scalar in float32 (float64 for float64 inputs), regardless of autocast; differentiable
        once in z, with ties in arbitrary order. NaN if a projection is NaN.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, directions that require a gradient, an
            unknown ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.

    The shape term of VISReg (Wu et al. 2026, arXiv:2606.02572), without its standardisation. Sliced
    Wasserstein distances: Bonneel et al. 2015 (*Sliced and Radon Wasserstein barycenters of
    measures*).
    """
    check_samples(z)
    check_directions(z, directions)
    impl = choose(impl, IMPLEMENTATIONS, z)
    if impl == "reference":
        return sliced_wasserstein_reference(z, directions)
    sets = z if z.dim() == 3 else z.reshape(-1, *z.shape[-2:])
    return fused(sets, directions, "cpu" if impl == "cpu" else "tiled")
