"""The C++ kernels: one pass over the logits, in any dtype, for rows and columns of the plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from .sums import LogSum


def iterate(x: Tensor, epsilon: float | Tensor, iterations: int, count: Tensor | None) -> Tensor:
    """The centre of one process, (C, k)."""
    x = _readable(x, count)
    out = x.new_empty((x.shape[0], x.shape[2]), dtype=torch.float32)
    extension().sinkhorn(problem_of(x, None, epsilon), iterations, address(out))
    return out


def columns(x: Tensor, epsilon: float | Tensor, count: Tensor | None) -> LogSum:
    """Log-sum-exp of logits / ε over the first ``count`` rows: (C, k) for x (C, N, k)."""
    x, out = _readable(x, count), _empty(x, x.shape[2])
    extension().sinkhorn_columns(problem_of(x, None, epsilon), _addresses(out))
    return out


def rows(x: Tensor, center: Tensor, epsilon: float | Tensor) -> LogSum:
    """Log-sum-exp of (logits - center) / ε over these columns: (C, N)."""
    x, out = _readable(x, None), _empty(x, x.shape[1])
    extension().sinkhorn_rows(problem_of(x, center, epsilon), _addresses(out))
    return out


def masses(
    x: Tensor,
    center: Tensor,
    epsilon: float | Tensor,
    count: Tensor | None,
    sums: LogSum | None = None,
) -> Tensor:
    """Masses of these prototypes over the first ``count`` rows of the plan: (C, k).

    ``sums``: :func:`rows` over all columns; None if x has them all.
    """
    x, out = _readable(x, count), _empty(x, x.shape[2]).total
    if sums is not None:
        sums = LogSum(*(part[:, : x.shape[1]].contiguous() for part in sums))
    known = _addresses(sums or (None, None))
    extension().sinkhorn_masses(problem_of(x, center, epsilon), known, address(out))
    return out


def product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a b, in float32."""
    left, right = ((matrix(x), 0, 0, 0, False) for x in (a, b))
    threads = torch.get_num_threads()
    extension().standardized_product(
        left, right, False, threads, address(out), out.stride(0), False
    )


def _empty(x: Tensor, size: int) -> LogSum:
    return LogSum(*(x.new_empty(x.shape[0], size, dtype=torch.float32) for _ in LogSum._fields))


def _readable(x: Tensor, count: Tensor | None) -> Tensor:
    """The first ``count`` rows, each contiguous."""
    x = x if count is None else x[:, : max(0, count.item())]
    return x if x.stride(2) == 1 else x.contiguous()


def _addresses(sums: tuple[Tensor | None, ...]) -> tuple[int, ...]:
    return tuple(map(address, sums))


def problem_of(x: Tensor, center: Tensor | None, epsilon: float | Tensor) -> tuple[Any, ...]:
    """The arguments of a pass of the extension."""
    groups = (x.shape[0], x.stride(0))
    return matrix(x[0]), *groups, address(center), 1 / float(epsilon), torch.get_num_threads()
