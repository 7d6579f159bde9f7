"""KoLeo: every embedding is repelled by its nearest neighbours."""

from __future__ import annotations

import math
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import check_choice, check_integers, check_not_negative, check_positive
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, first_row, gather_rows, scale_gradient
from ...primitives._rows import normalize
from ...primitives.nearest_neighbor import nearest_neighbor
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings, mean_loss

CONVENTIONS = ("dinov2", "lightly")


def koleo(
    x: Tensor,
    *,
    p: float = 2,
    eps: float = 1e-8,
    topk: int = 1,
    convention: str = "lightly",
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """The KoLeo regulariser (Sablayrolles et al. 2019, arXiv:1806.03198) of DINOv2 and DINOv3.

    ``mean_i −log(‖z_i − z_j + eps‖_p + eps)`` over the ``topk`` nearest neighbours j of each i by
    cosine similarity, where z is x normalised. Both ends of a distance get a gradient.

    Args:
        x: (N, D), embeddings of one view; the N × N similarities are never stored.
        p: norm of the distance.
        eps: keeps the logarithm finite.
        topk: neighbours of each embedding, 1..N − 1 (DINOv3's ``KoLeoLossDistributed``).
        convention: the treatment of the diagonal. ``"lightly"`` leaves out an embedding's
            similarity with itself; ``"dinov2"`` sets it to −1, so that an embedding whose others
            are all opposite can be its own neighbour. Otherwise the two agree.
        gather: the ranks whose embeddings are candidate neighbours (DINOv3); always by one
            collective, whatever the route.
        impl: see :func:`sslkernels.nearest_neighbor`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(x=x)
    check_batch("x", x, gather)
    _check(p, eps, topk, convention)
    with full_precision(x):
        z = scale_gradient(x, gather).to(accumulation_dtype(x))
        z = normalize(z, least=eps)
        others = gather_rows(z, gather)
        if not 1 <= topk < len(others):
            raise ValueError(
                f"topk must be in 1..{len(others) - 1}, the other embeddings; got {topk}"
            )
        index = _neighbors(
            z.detach(), others.detach(), first_row(z, gather), topk, convention, impl
        )
        distances = F.pairwise_distance(z[:, None], others[index], p, eps)  # (N, topk)
        return mean_loss(-(distances + eps).log().mean(1), x, gather)


class KoLeoLoss(GatheringLoss):
    """KoLeo as a module: lightly's constructor, defaults and results.

    Formula and shapes: :func:`sslkernels.functional.koleo`.

    Args:
        p, eps, topk, convention: see :func:`sslkernels.functional.koleo`.
        gather_distributed: search for neighbours among the embeddings of all ranks.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`; DINOv3's
            ``loss_group_size`` is the size of ``group``.
    """

    def __init__(
        self,
        p: float = 2,
        eps: float = 1e-8,
        *,
        topk: int = 1,
        convention: str = "lightly",
        gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        _check(p, eps, topk, convention)
        self.p, self.eps, self.topk, self.convention = p, eps, topk, convention

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of embeddings (N, D)."""
        return koleo(
            x,
            p=self.p,
            eps=self.eps,
            topk=self.topk,
            convention=self.convention,
            gather=self.gather,
            impl=self.impl,
        )


def _check(p: float, eps: float, topk: int, convention: str) -> None:
    if not (isinstance(p, float) and p == math.inf):
        check_positive(p=p)
    check_not_negative(eps=eps)
    check_integers(1, topk=topk)
    check_choice("convention", convention, CONVENTIONS)


def _neighbors(
    z: Tensor, others: Tensor, first: int, topk: int, convention: str, impl: str
) -> Tensor:
    """(N, topk): the rows of ``others`` nearest to each of z, which starts at row ``first``."""
    similarities, index = nearest_neighbor(z, others, topk, exclude=(first,), impl=impl)
    if convention == "lightly":
        return index
    # the similarity with itself counts as −1, and the first of equal ones is taken
    own = torch.arange(first, first + len(z), device=z.device)[:, None]
    last, least = index[:, -1:], similarities[:, -1:]
    index[:, -1:] = torch.where(
        least < -1, own, torch.where(least == -1, torch.minimum(own, last), last)
    )
    return index
