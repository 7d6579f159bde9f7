"""Jigsaw: predict the order of nine tiles (Noroozi and Favaro 2016, arXiv:1603.09246)."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from ..._checks import MOST_SEED, check_integers
from .._checks import check_generator
from ._tiles import check_images, check_tensor, cut, random_integers

TILES = 9
MOST = math.factorial(TILES)


def jigsaw_permutations(count: int, seed: int = 0) -> Tensor:
    """Permutations of nine tiles that are far apart, chosen greedily from all 362,880.

    The first is random. Each further one has the largest minimum Hamming distance to those before;
    ties are broken by the largest sum of distances, then at random by ``seed``. Published sets of
    100, 2,000 and 10,000 are made in this way, and differ in the random choices. Takes about 0.01 s
    per permutation.

    Args:
        count: number of permutations, from 1 to 362,880.
        seed: of the random choices.

    Returns:
        (count, 9) int64; permutation p puts tile p[j] at position j. Do not modify it.

    Raises:
        TypeError, ValueError: an argument is not an integer, or out of range.
    """
    check_integers(1, MOST, count=count)
    check_integers(0, MOST_SEED, seed=seed)
    return _permutations(int(count), int(seed))


@lru_cache(maxsize=4)
def _permutations(count: int, seed: int) -> Tensor:
    everything = np.array(list(permutations(range(TILES))), np.int8)
    everything = np.random.default_rng(seed).permutation(everything)  # breaks ties at random
    least = np.full(len(everything), TILES, np.int64)
    total = np.zeros(len(everything), np.int64)
    columns = np.ascontiguousarray(everything.T)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros(len(everything), np.int8)
        for column in columns:
            distance += column != column[chosen[-1]]
        np.minimum(least, distance, out=least)
        total += distance
        chosen.append(int((least * (TILES * count + 1) + total).argmax()))
    return torch.from_numpy(everything[chosen].astype(np.int64))


def jigsaw(
    images: Tensor,
    permutations: Tensor,
    generator: torch.Generator,
    *,
    cell: int = 85,
    tile: int = 64,
) -> tuple[Tensor, Tensor]:
    """Cut each image into nine tiles, and arrange them in one of the ``permutations``.

    A tile has a random position in its cell of a 3 × 3 grid, so that edges do not give away which
    tiles are adjacent. The grid has a random position in the image.

    Args:
        images: (N, C, height, width) of any dtype, at least 3 ``cell`` a side.
        permutations: (P, 9) int64, from ``jigsaw_permutations``.
        generator: source of all random numbers, on the device of ``images``.
        cell, tile: sides in pixels; by default the paper's.

    Returns:
        ``(tiles, labels)``: (N, 9, C, tile, tile) in the dtype of ``images``, with tile
        permutations[label, j] of the grid, by rows, at position j; labels (N,) int64 below P.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: shapes or devices do not fit, ``tile`` is not from 1 to ``cell``, or
            ``permutations`` contain numbers other than 0 to 8. (On CUDA they are not checked.)
    """
    check_integers(1, cell=cell, tile=tile)
    if tile > cell:
        raise ValueError(f"tile must be at most cell, got {tile} and {cell}")
    check_tensor("permutations", permutations)
    if permutations.dtype != torch.int64:
        raise TypeError(f"permutations must be int64, got {permutations.dtype}")
    if permutations.ndim != 2 or permutations.shape[1] != TILES:
        raise ValueError(f"permutations must be (P, {TILES}), got {tuple(permutations.shape)}")
    if len(permutations) == 0:
        raise ValueError("permutations must be one at least, got none")
    if not permutations.is_cuda and not ((permutations >= 0) & (permutations < TILES)).all():
        raise ValueError(f"permutations must hold 0 to {TILES - 1}, got other numbers")
    check_images(images, 3 * cell)
    check_generator(generator, images.device)
    count, device = len(images), images.device
    sides = torch.tensor(images.shape[2:], device=device)
    corner = random_integers(generator, 0, sides - 3 * cell, count, 1, 2)
    grid = torch.cartesian_prod(*[torch.arange(3, device=device) * cell] * 2)  # (9, 2)
    places = corner + grid + random_integers(generator, 0, cell - tile, count, TILES, 2)
    labels = torch.randint(len(permutations), (count,), generator=generator, device=device)
    order = permutations.to(device)[labels]  # (N, 9)
    places = places.gather(1, order[..., None].expand(-1, -1, 2))
    return cut(images, places[..., 0], places[..., 1], tile), labels
