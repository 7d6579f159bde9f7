"""Projectors and predictors: perceptrons, layer by layer."""

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
    """Linear layers, between which batch normalisation and an activation stand.

    Args:
        sizes: of the input, of each hidden layer, and of the output; of the input alone: nothing,
            which returns what it is given.
        norm: whether batches are normalised between layers.
        last_norm: whether they are after the last, without a scale and shift to learn.
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
