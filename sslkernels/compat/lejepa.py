"""SIGReg as LeJEPA's authors publish it: names, arguments, defaults, values, checkpoints.

As there, ranks are averaged over if torch.distributed is initialised; all ranks must have made the
same number of calls. Differences, and parts not covered: ``sslkernels/compat/README.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._operator import accumulation_dtype, full_precision
from ..distributed import Gather, ranks_of, sum_over_ranks
from ..losses import sigreg
from .peer import Peer, ShowsArguments
from .slices import Knots, Step

__all__ = ["EppsPulley", "SlicingUnivariateTest"]

PEER = Peer(
    package="lejepa",
    defined_in={
        "EppsPulley": "lejepa.univariate.epps_pulley",
        "SlicingUnivariateTest": "lejepa.multivariate.slicing",
    },
)


class EppsPulley(ShowsArguments, Knots):
    """The statistic of samples on a line: ``N ∫ |φ_empirical − φ_normal|² e^(−t²/2) dt``.

    Within ``SlicingUnivariateTest`` projections are not stored; used alone, it stores them for
    every knot, as does the authors' class.
    """

    def __init__(
        self, t_max: float = 3, n_points: int = 17, integration: str = "trapezoid"
    ) -> None:
        super().__init__()
        if n_points % 2 != 1:
            raise AssertionError(f"n_points must be odd, got {n_points}")
        self.t_max, self.n_points, self.integration = t_max, n_points, integration
        self.keep_knots(n_points, t_max)

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        ranks = ranks_of(Gather())
        return 1 if ranks is None else ranks.size

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics (…, K) of samples (…, N, K)."""
        with full_precision(x):
            x = x.to(accumulation_dtype(x))
            angles = x[..., None] * self.t
            means = torch.stack([angles.cos().mean(-3), angles.sin().mean(-3)])
            cosine, sine = sum_over_ranks(means, Gather()) / self.world_size
            error = (cosine - self.phi).square() + sine.square()
            return (error @ self.weights.to(x.dtype)) * x.shape[-2] * self.world_size


class SlicingUnivariateTest(ShowsArguments, Step):
    """The mean of ``EppsPulley`` (no other statistic) over random directions."""

    def __init__(
        self,
        univariate_test: nn.Module,
        num_slices: int,
        reduction: str | None = "mean",
        sampler: str = "gaussian",
        clip_value: float | None = None,
    ) -> None:
        super().__init__()
        self.reduction, self.num_slices, self.sampler = reduction, num_slices, sampler
        self.univariate_test, self.clip_value = univariate_test, clip_value
        self.keep_step()

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean or sum of the statistics of (…, N, D), or all of them, (…, M)."""
        test = self.univariate_test
        if not isinstance(test, EppsPulley):
            raise TypeError(
                f"univariate_test must be an EppsPulley of this module, got a {type(test).__name__}"
            )
        knots = test.known_knots()
        return sigreg(
            x, self.draw(x, self.num_slices), *knots,
            reduction="none" if self.reduction is None else self.reduction,
            clip_value=self.clip_value, gather=Gather(),
        )  # fmt: skip
