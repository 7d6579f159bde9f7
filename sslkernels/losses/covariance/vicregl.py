"""VICRegL: VICReg on pooled features and on matched cells of feature maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import check_devices, check_integers, check_numbers, check_sequence
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, scale_gradient
from .._common import Gathering, GatheringLoss, check_batch, check_embeddings, check_views
from .vicreg import check_weights, invariance, variance_and_covariance, vicreg

Features = Sequence[tuple[Tensor, Tensor]]  # per view: pooled (N, D), map (N, H, W, D')


def vicregl(
    global_view_features: Features,
    global_view_grids: Sequence[Tensor],
    local_view_features: Features | None = None,
    local_view_grids: Sequence[Tensor] | None = None,
    *,
    lambda_param: float = 25.0,
    mu_param: float = 25.0,
    nu_param: float = 1.0,
    alpha: float = 0.75,
    eps: float = 1e-4,
    num_matches: tuple[int, int] = (20, 4),
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """VICRegL's loss (Bardes et al. 2022, arXiv:2210.01571): ``α · global + (1 − α) · local``.

    *Global*: λ times the mean squared difference of each global view with every other view, plus µ
    and ν times the means over views of the variance and covariance terms of
    :func:`sslkernels.functional.vicreg`.

    *Local*: for each global view with every other view, cells are matched twice: with the cell of
    the other map that is nearest in feature space, and with the one nearest in the image. The
    closest pairs of each image are sorted by distance, and VICReg's loss, with ν/2, is taken over
    the batch for each place in that order; the two directions are averaged, and the two kinds of
    matches added.

    Args:
        global_view_features: for each large crop, the pooled features (N, D) and the feature map
            (N, H, W, D').
        global_view_grids: for each large crop, the position of each cell in the image,
            (N, H, W, 2).
        local_view_features, local_view_grids: the same for the small crops, if any; H and W may
            differ.
            may differ.
        lambda_param, mu_param, nu_param: λ, µ, ν.
        alpha: α.
        eps: added to the variance under the square root.
        num_matches: number of pairs in the first and in the second direction, as in the authors'
            code and lightly (in the paper: of large and of small crops). At most H · W are used.
        gather: the ranks whose rows are included.
        impl: see :func:`sslkernels.offdiagonal_norm`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape, fewer than two views,
            or ``num_matches`` not two integers of at least 1.
    """
    check_weights(lambda_param, mu_param, nu_param, eps)
    check_numbers(alpha=alpha)
    _check_matches(num_matches)
    local_view_features = [] if local_view_features is None else local_view_features
    local_view_grids = [] if local_view_grids is None else local_view_grids
    small = _with_grids("local_view", local_view_features, local_view_grids)
    large = _with_grids("global_view", global_view_features, global_view_grids)
    views = list(enumerate(large + small))
    pairs = [(a, b) for (i, a), (j, b) in product(views[: len(large)], views) if i != j]
    if not pairs:
        raise ValueError(
            "global_view_features and local_view_features must be two views, one of them global; "
            f"got {len(large)} global and {len(small)} local"
        )
    names = [f"global_view_features[{i}]" for i in range(len(large))]
    names += [f"local_view_features[{i}]" for i in range(len(small))]
    named = list(zip(names, large + small, strict=True))
    check_embeddings(**{f"{name}[0]": pooled for name, (pooled, _, _) in named})
    check_embeddings(**{f"first cells of {name}[1]": cells[:, 0] for name, (_, cells, _) in named})
    check_batch("vicregl", large[0][0], gather)
    options: dict[str, Any] = {"gather": gather, "impl": impl}
    with full_precision(large[0][0]):
        differences = [
            invariance(scale_gradient(a[0], gather), scale_gradient(b[0], gather), gather)
            for a, b in pairs
        ]
        terms = [
            variance_and_covariance(scale_gradient(z, gather), eps, route="auto", **options)
            for z, _, _ in large + small
        ]
        variance, covariance = (torch.stack(term).mean() for term in zip(*terms, strict=True))
        pooled = lambda_param * torch.stack(differences).mean()
        pooled = pooled + mu_param * variance + nu_param * covariance
        matched = [
            vicreg(*maps, lambda_param, mu_param, nu_param / 2, eps, **options)
            for a, b in pairs
            for maps in _matches(a[1:], b[1:], num_matches)
        ]
        # four terms for each pair of views; two of them are averages of both directions
        cells = torch.stack(matched).sum() / (2 * len(pairs))
        return alpha * pooled + (1 - alpha) * cells


class VICRegLLoss(GatheringLoss):
    """VICRegL's loss: constructor, defaults and values of ``lightly.loss.VICRegLLoss``.

    Formula and shapes: :func:`sslkernels.functional.vicregl`.

    Args:
        lambda_param, mu_param, nu_param: weights of invariance, variance and covariance.
        alpha: weight of the global loss.
        gather_distributed: compute the loss of the global batch.
        eps: added to the variance under the square root.
        num_matches: number of matched cells in the first and in the second direction.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 1.0,
        alpha: float = 0.75,
        gather_distributed: bool = False,
        eps: float = 1e-4,
        num_matches: tuple[int, int] = (20, 4),
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_weights(lambda_param, mu_param, nu_param, eps)
        check_numbers(alpha=alpha)
        _check_matches(num_matches)
        self.lambda_param, self.mu_param, self.nu_param = lambda_param, mu_param, nu_param
        self.alpha, self.eps, self.num_matches = alpha, eps, num_matches

    def forward(
        self,
        global_view_features: Features,
        global_view_grids: Sequence[Tensor],
        local_view_features: Features | None = None,
        local_view_grids: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of all views' features."""
        return vicregl(
            global_view_features, global_view_grids, local_view_features, local_view_grids,
            lambda_param=self.lambda_param, mu_param=self.mu_param, nu_param=self.nu_param,
            alpha=self.alpha, eps=self.eps, num_matches=self.num_matches, gather=self.gather,
            impl=self.impl,
        )  # fmt: skip


def _check_matches(num_matches: tuple[int, int]) -> None:
    check_sequence("num_matches", num_matches, "two integers")
    if len(num_matches) != 2:
        raise ValueError(f"num_matches must be two integers, got {len(num_matches)}")
    for x in num_matches:
        check_integers(1, num_matches=x)


def _with_grids(
    name: str, features: Features, grids: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(pooled, cells (N, HW, D'), positions (N, HW, 2)) of each view."""
    check_sequence(f"{name}_features", features, "pairs of tensors")
    check_sequence(f"{name}_grids", grids)
    for pair in features:
        check_sequence(f"each of {name}_features", pair)
        if len(pair) != 2:
            raise ValueError(
                f"each of {name}_features must be pooled features and a map, got {len(pair)}"
            )
    if len(features) != len(grids):
        raise ValueError(
            f"{name}_features and {name}_grids must be of one length, "
            f"got {len(features)} and {len(grids)}"
        )
    views = []
    for (pooled, cells), places in zip(features, grids, strict=True):
        for x in (pooled, cells, places):
            check_views(**{f"each tensor of {name}_features and {name}_grids": x})
        check_devices(**{f"{name}_features": cells, f"{name}_grids": places})
        shape = tuple(cells.shape[:3])
        if cells.dim() != 4 or len(cells) != len(pooled) or places.shape != (*shape, 2):
            raise ValueError(
                f"{name} needs pooled features (N, D), a map (N, H, W, D') and a grid "
                f"(N, H, W, 2); got {tuple(pooled.shape)}, {tuple(cells.shape)} and "
                f"{tuple(places.shape)}"
            )
        views.append((pooled, cells.flatten(1, 2), places.flatten(1, 2)))
    return views


def _matches(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], counts: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Matched cells of a and b, by features and by position, in both directions."""
    for by in (0, 1):
        with torch.no_grad():
            x, y = (z.to(accumulation_dtype(z)) for z in (a[by], b[by]))
            distances = torch.cdist(x, y)  # (N, HW of a, HW of b)
        yield _nearest(a[0], b[0], distances, counts[0])
        yield _nearest(b[0], a[0], distances.transpose(1, 2), counts[1])


def _nearest(x: Tensor, y: Tensor, distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` cells of x with the nearest neighbours in y, and those: (N, count, D) each."""
    distance, neighbor = distances.min(2)
    chosen = distance.topk(min(count, x.shape[1]), 1, largest=False).indices
    return _cells(x, chosen), _cells(y, neighbor.gather(1, chosen))


def _cells(x: Tensor, index: Tensor) -> Tensor:
    # not torch.gather, whose gradient is not deterministic where cells repeat
    return x[torch.arange(len(x), device=x.device)[:, None], index]
