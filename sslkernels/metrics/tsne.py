"""t-SNE: a map in two dimensions on which neighbours stay neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import check_integers, check_numbers
from .._operator import accumulation_dtype
from ._checks import check_features, check_finite
from .principal_components import principal_components

EXAGGERATION, EXAGGERATED = 12.0, 250  # by how much, and for how many steps


@torch.no_grad()
def tsne(features: Tensor, perplexity: float = 30.0, *, steps: int = 750) -> Tensor:
    """Places in the plane of features (n, d) (van der Maaten and Hinton 2008, JMLR 9, 2579–2605).

    Exact, in O(n²) memory and time per step: for a thousand points some seconds on a CPU. It starts
    from the two principal components, so that nothing is random. Distances between clusters on the
    map mean little.

    Args:
        features: (n, d) floating point, n ≥ 3 and d ≥ 2. Computed in float32 or wider.
        perplexity: how many neighbours count, from 1 to below n − 1.
        steps: of gradient descent, with momentum and gains. For the first 250 attraction is
            exaggerated by 12, for clusters to form.

    Returns:
        (n, 2), in the dtype computed in.

    Raises:
        TypeError, ValueError: ``features`` are not (n, d) floating point with n ≥ 3, d ≥ 2 and
            finite, or a number is out of range.
    """
    check_features("features", features, rows=3)
    check_finite("features", features)
    n, d = features.shape
    if d < 2:
        raise ValueError(f"features must have at least 2 columns, got {d}")
    check_numbers(perplexity=perplexity)
    check_integers(1, steps=steps)
    perplexity, steps = float(perplexity), int(steps)
    if not 1 <= perplexity < n - 1:
        raise ValueError(f"perplexity must be from 1 to below {n - 1}, got {perplexity}")
    features = features.to(accumulation_dtype(features))
    wanted = neighbor_probabilities(torch.cdist(features, features).square(), perplexity)
    wanted = (wanted + wanted.T) / (2 * n)
    places = principal_components(features, 2).coordinates
    places = 1e-4 * places / places[:, 0].std().clamp_min(1e-12)
    velocity, gains = torch.zeros_like(places), torch.ones_like(places)
    rate = max(n / EXAGGERATION / 4, 50.0)  # as large as does not throw points out
    for step in range(steps):
        is_early = step < EXAGGERATED
        nearness = 1 / (1 + torch.cdist(places, places).square())
        nearness.fill_diagonal_(0)
        pull = (EXAGGERATION if is_early else 1.0) * wanted - nearness / nearness.sum()
        pull *= nearness
        gradient = 4 * (pull.sum(1, keepdim=True) * places - pull @ places)
        is_turning = (gradient > 0) == (velocity > 0)
        gains = torch.where(is_turning, 0.8 * gains, gains + 0.2).clamp_min_(0.01)
        velocity = (0.5 if is_early else 0.8) * velocity - rate * gains * gradient
        places = places + velocity
    return places - places.mean(0)


def neighbor_probabilities(squares: Tensor, perplexity: float) -> Tensor:
    """Of each row's neighbours, by squared distances (n, n): Gaussian, of the given perplexity.

    The width of each row's Gaussian is found by bisection. The row itself has probability 0.
    """
    n = len(squares)
    # nearest at 0: the same probabilities, and a largest exponent of 0
    others = squares.masked_fill(torch.eye(n, dtype=torch.bool, device=squares.device), math.inf)
    others = others - others.amin(1, keepdim=True)
    scale = others.masked_fill(others.isinf(), 0).mean(1, keepdim=True).clamp_min(1e-30)
    low, high = (torch.full_like(scale, x) for x in (-20.0, 20.0))  # of log precision · scale
    for _ in range(40):
        middle = (low + high) / 2
        probabilities = torch.softmax(-others * middle.exp() / scale, 1)
        entropy = torch.special.entr(probabilities).sum(1, keepdim=True)
        is_wide = entropy > math.log(perplexity)
        low, high = torch.where(is_wide, middle, low), torch.where(is_wide, high, middle)
    return probabilities
