"""t-SNE: a two-dimensional map that preserves neighbourhoods."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import check_integers, check_numbers
from .._operator import accumulation_dtype
from ._checks import check_features, check_finite
from .principal_components import principal_components

EXAGGERATION, EXAGGERATED = 12.0, 250  # factor and number of steps


@torch.no_grad()
def tsne(features: Tensor, perplexity: float = 30.0, *, steps: int = 750) -> Tensor:
    """Embed features (n, d) in the plane (van der Maaten and Hinton 2008, JMLR 9, 2579–2605).

    Exact, in O(n²) memory and time per step: some seconds on a CPU for a thousand points. It starts
    from the first two principal components, and is deterministic. Distances between clusters on
    the map mean little.

    Args:
        features: (n, d) floating point, n ≥ 3 and d ≥ 2. Computed in float32 or wider.
        perplexity: effective number of neighbours, from 1 to below n − 1.
        steps: of gradient descent, with momentum and gains. Early exaggeration by 12 in the first
            250.

    Returns:
        (n, 2), in the dtype of the computation.

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
    rate = max(n / EXAGGERATION / 4, 50.0)  # the "auto" rule of scikit-learn
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
    """Probabilities of each row's neighbours, from squared distances (n, n): Gaussian, with the
    given perplexity.

    Bisection finds the width of each row's Gaussian. The row itself has probability 0.
    """
    n = len(squares)
    # shifted so that the nearest is at 0: the same probabilities, without underflow
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
