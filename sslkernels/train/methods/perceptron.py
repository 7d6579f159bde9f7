"""Projectors and predictors: multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def perceptron(
    sizes: Sequence[int],
    *,
    norm: bool = True,
    last_norm: bool = False,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear layers with batch normalisation and an activation in between.

    Args:
        sizes: widths of the input, of each hidden layer and of the output; with the input alone,
            the result is an identity.
        norm: batch normalisation between layers.
        last_norm: batch normalisation after the last layer, without learned scale and shift.
        activation: between layers.
    """
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for index, (before, after) in enumerate(pairwise(sizes)):
        is_normed = last_norm if index == last else norm
        layers.append(nn.Linear(before, after, bias=not is_normed))
        if is_normed:
            layers.append(nn.BatchNorm1d(after, affine=index != last))
        if index != last:
            layers.append(activation())
    return nn.Sequential(*layers)
