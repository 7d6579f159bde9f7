"""Matrix products by tiles, and CUDA C++ passes over them. Opt-in: ``impl="cuda"``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ..._ext import DTYPES, address, extension, stream
from .._tiles import fill_diagonals
from . import tiled
from .tiled import Side


def _reduce(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    rows: Tensor,
    columns: Tensor | None,
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    scale = scale.float()
    extension(cuda=True).cuda_pairwise_logsumexp_reduce(
        address(products),
        address(scale),
        *products.shape,
        address(rows),
        address(columns),
        stream(products),
    )


def _weigh(
    products: Tensor,
    scale: Tensor,
    diagonals: Sequence[int],
    row: Side,
    column: Side | None,
    out: Tensor,
) -> None:
    fill_diagonals(products, diagonals, float("-inf"))
    scale = scale.float()
    extension(cuda=True).cuda_pairwise_logsumexp_weigh(
        address(products),
        address(scale),
        *products.shape,
        *map(address, row),
        *map(address, column or (None, None)),
        address(out),
        DTYPES[out.dtype],
        stream(products),
    )


forward = partial(tiled.forward, reduce=_reduce)
backward = partial(tiled.backward, weigh=_weigh)
