"""The loss as one operator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..._operator import fused_loss
from .._arguments import choose
from ..offdiagonal_norm import routes
from ..offdiagonal_norm.columns import Standardized
from .kernels import fused_kernels
from .problem import CovarianceLoss

WORKSPACE = 64 << 20  # bytes for a view's products


def covariance_loss(
    a: Tensor,
    b: Tensor,
    cross: bool,
    standardized: Sequence[float] | None,
    off_diagonal: float,
    power: int,
    diagonal: float,
    variance: float,
    variance_eps: float,
    distance: float,
    samples: bool,
    wanted: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor]:
    how = None if standardized is None else Standardized.of(standardized)
    problem = CovarianceLoss(
        a, b, cross, how, off_diagonal, power, diagonal, variance, variance_eps, distance, samples
    )
    return fused_kernels(impl).covariance_loss(problem, wanted)


_loss = fused_loss(covariance_loss, tensors=2)


def fused(problem: CovarianceLoss, *, impl: str, route: str) -> Tensor | None:
    """The loss of one process as one operator, if its products fit the workspace; else None."""
    n, d = problem.a.shape
    chosen = choose(impl, ("auto", "reference", "tiled", "cpu", "triton"), problem.a)
    samples = routes.choose(route, n, d) == "sample"
    size = n if samples else d
    # the fused operator becomes the default on a GPU once measured there to be correct and faster
    is_fused = chosen == "cpu" or impl == "triton"
    if not is_fused or 4 * size * size > WORKSPACE or not fused_kernels(chosen).takes(problem):
        return None
    a, b, cross, how, *weights, _ = problem
    return _loss(a, b, cross, how and how.numbers(), *weights, samples, chosen)
