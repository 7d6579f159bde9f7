"""The definition, in plain torch: on any device, without compilation.

With B = ceil(features / 4), the four words of block j, from the counter (j, slice, step), give the
numbers at j, B + j, 2 B + j and 3 B + j of a direction; those beyond its end are dropped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


def random_directions(
    step: Tensor, features: int, slices: int, seed: int, dtype: torch.dtype
) -> Tensor:
    """(slices, features), drawn in float32."""
    quarter = (features + 3) // 4
    blocks = torch.arange(quarter, device=step.device)[None]
    rows = torch.arange(slices, device=step.device)[:, None]
    words = philox((seed & WORD, seed >> 32), (blocks, rows, step & WORD, step >> 32 & WORD))
    numbers = torch.cat([*_normal(*words[:2]), *_normal(*words[2:])], 1)[:, :features]
    return (numbers / torch.linalg.vector_norm(numbers, dim=1, keepdim=True)).to(dtype)


def philox(key: tuple[int, int], counter: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Philox4x32-10, with words in int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = _product(c0, MULTIPLIERS[0]), _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower word; no sum exceeds 63 bits."""
    low = a * (b & 0xFFFF)
    rest = a * (b >> 16) + (low >> 16)
    return rest >> 16, (rest & 0xFFFF) << 16 | low & 0xFFFF


def _normal(radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Two normal numbers from two words, as odd multiples of 2^-24: never 0."""
    u = (radius >> 8 | 1).float() * 2**-24
    t = (((angle ^ 0x80000000) - 0x80000000) >> 8 | 1).float() * 2**-24  # in turns, -1/2..1/2
    r = (-2 * u.log()).sqrt()
    return r * (2 * math.pi * t).cos(), r * (2 * math.pi * t).sin()
