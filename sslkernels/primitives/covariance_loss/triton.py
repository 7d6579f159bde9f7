"""Triton for column-wise steps, and two of torch's batched products: five launches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._operator import offsets, plain
from .._tile_table import ceil
from .problem import CovarianceLoss
from .triton_kernels import columns_kernel, finish_kernel, products_kernel

MOST_ROWS = 4096  # a program processes all rows of its columns
TILE = 512  # elements at a time
SIDE = 32  # of the tiles of products


def takes(p: CovarianceLoss) -> bool:
    """Not for float16, whose range the products may exceed."""
    return p.a.dtype != torch.float16 and p.a.shape[0] <= MOST_ROWS


def covariance_loss(p: CovarianceLoss, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """The loss and its derivatives in a and b."""
    with plain(p.a):
        return _launch(p, wanted)


def _launch(p: CovarianceLoss, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    n, d = p.a.shape
    weights = p.weights()
    has_gradient = any(wanted)
    derivatives, at = offsets((p.a, p.b), wanted)
    loss = p.a.new_empty((), dtype=torch.float32)
    values = p.a.new_empty((2, n, d))
    columns = p.a.new_empty((6, 2, d), dtype=torch.float32)
    column_loss = p.a.new_empty(d, dtype=torch.float64)
    views = (p.a, *p.a.stride(), p.b, *p.b.stride())
    block = _block(n, d)
    kind = {"CROSS": p.cross, "SAMPLES": p.samples}
    eps, correction, outer_eps = p.standardized.numbers() if p.standardized else (0.0, 0.0, 0.0)
    columns_kernel[(ceil(d, block["COLUMNS"]),)](
        *views,
        values,
        columns,
        column_loss,
        n,
        d,
        float(correction),
        eps,
        outer_eps,
        *weights,
        STANDARDIZED=p.standardized is not None,
        VARIANCE=p.variance != 0,
        DISTANCE=p.distance != 0,
        **kind,
        **block,
    )
    if p.samples:
        product = _product(values, values.mT)
    else:
        product = _product(*((values[:1].mT, values[1:]) if p.cross else (values.mT, values)))
    size = n if p.samples else d
    programs = ceil(size, SIDE) ** 2
    partials = p.a.new_empty(programs, dtype=torch.float32)
    lowered = p.a.new_empty((2, size, size) if has_gradient else 0)
    large = p.a.new_empty((2, n) if has_gradient and p.samples else 0, dtype=torch.float32)
    products_kernel[(programs,)](
        product, lowered, large, partials, size, GRADIENT=has_gradient, SIDE=SIDE, **kind,
        num_warps=4,
    )  # fmt: skip
    if has_gradient:
        product = _product(*((lowered, values) if p.samples else (values, lowered)))
    off_diagonal, *_, distance = weights
    finish_kernel[(1 + (ceil(d, block["COLUMNS"]) if has_gradient else 0),)](
        *views,
        product,
        large,
        columns,
        column_loss,
        partials,
        loss,
        derivatives,
        n,
        d,
        programs,
        off_diagonal,
        (2 if p.cross else 4) * off_diagonal,
        distance,
        *at,
        DISTANCE=p.distance != 0,
        **kind,
        **block,
    )
    return loss, derivatives


def _block(n: int, d: int) -> dict[str, int]:
    """Fewer columns per program if there are few, so that the device is not idle."""
    columns = 32 if d >= 4096 else 16
    return {"ROWS": TILE // columns, "COLUMNS": columns, "num_warps": 4}


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The batched product in float32."""
    if a.is_cuda and a.dtype != torch.float32:  # tensor cores: float32 sums
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())
