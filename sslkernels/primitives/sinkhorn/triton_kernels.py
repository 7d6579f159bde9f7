"""The Triton kernels themselves; their launchers are in triton.py.

x: logits (C, n, k), columns contiguous. ``inverse_high`` and ``inverse_low`` make one factor, the
inverse of epsilon. With COUNTED rows from ``count`` on are not read. UNIT divides k and strides.
"""

import triton
import triton.language as tl

from .._triton import NOTHING, exp, kernel, multiple, scale


@triton.jit
def _load(at, inside, center, inverse_high, inverse_low):
    """(x - center) / epsilon, rounded once; -inf outside."""
    x = tl.load(at, mask=inside, other=float("-inf")).to(tl.float32) - center
    return tl.where(inside, scale(x, inverse_high, inverse_low), float("-inf"))


@triton.jit
def _rows_that_count(count_ptr, n, COUNTED: tl.constexpr):
    count = n
    if COUNTED:
        count = tl.minimum(tl.load(count_ptr), n).to(tl.int32)
    return count


@kernel
def rows_kernel(
    x_ptr, count_ptr, center_ptr, max_ptr, sum_ptr, n, k, blocks_per_split,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Maximum and sum of exponentials of one row over one split of columns: (splits, C, n)."""
    row, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if row >= _rows_that_count(count_ptr, n, COUNTED):
        return
    k = multiple(k, UNIT)
    x_ptr += group * multiple(group_stride, UNIT)
    x_ptr += row * multiple(row_stride, UNIT)
    center_ptr += group.to(tl.int64) * k
    maximum = tl.full((1,), NOTHING, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    first = split * blocks_per_split
    for block in range(first, tl.minimum(first + blocks_per_split, tl.cdiv(k, BLOCK))):
        columns = block * BLOCK + tl.arange(0, BLOCK)
        inside = columns < k
        center = tl.load(center_ptr + columns, mask=inside, other=0.0)
        logits = _load(x_ptr + columns, inside, center, inverse_high, inverse_low)
        best = tl.maximum(maximum, tl.max(logits, 0))
        total = total * exp(maximum - best) + exp(logits - best)
        maximum = best
    at = (split * tl.num_programs(1) + group).to(tl.int64) * n + row + tl.arange(0, 1)
    tl.store(max_ptr + at, maximum)
    tl.store(sum_ptr + at, tl.sum(total, 0, keep_dims=True))


@kernel
def columns_kernel(
    x_ptr, count_ptr, max_ptr, sum_ptr, n, k, steps_per_split,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, UNIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The same of a block of columns over one split of rows: (splits, C, k)."""
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    group, split = tl.program_id(1), tl.program_id(2)
    start = split * steps_per_split * BM
    end = tl.minimum(start + steps_per_split * BM, _rows_that_count(count_ptr, n, COUNTED))
    k = multiple(k, UNIT)
    row_stride = multiple(row_stride, UNIT)
    x_ptr += group * multiple(group_stride, UNIT)
    maximum = tl.full((1, BN), NOTHING, tl.float32)
    total = tl.zeros((BM, BN), tl.float32)
    for row in range(start, end, BM):
        rows = row + tl.arange(0, BM)
        inside = (rows < end)[:, None] & (columns < k)[None, :]
        at = x_ptr + rows[:, None] * row_stride + columns[None, :]
        logits = _load(at, inside, 0.0, inverse_high, inverse_low)
        best = tl.maximum(maximum, tl.max(logits, 0, keep_dims=True))
        total = total * exp(maximum - best) + exp(logits - best)
        maximum = best
    at = (split * tl.num_programs(1) + group).to(tl.int64) * k + columns
    tl.store(max_ptr + at, tl.reshape(maximum, (BN,)), mask=columns < k)
    tl.store(sum_ptr + at, tl.sum(total, 0), mask=columns < k)


@kernel
def masses_kernel(
    x_ptr, count_ptr, center_ptr, row_max_ptr, row_sum_ptr, mass_ptr, n, k, steps_per_split,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, UNIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What one split of the plan's rows gives to a block of columns: (splits, C, k)."""
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    group, split = tl.program_id(1), tl.program_id(2)
    start = split * steps_per_split * BM
    end = tl.minimum(start + steps_per_split * BM, _rows_that_count(count_ptr, n, COUNTED))
    k = multiple(k, UNIT)
    row_stride = multiple(row_stride, UNIT)
    x_ptr += group * multiple(group_stride, UNIT)
    row_max_ptr += group.to(tl.int64) * n
    row_sum_ptr += group.to(tl.int64) * n
    center_ptr += group.to(tl.int64) * k
    center = tl.load(center_ptr + columns, mask=columns < k, other=0.0)[None, :]
    mass = tl.zeros((BM, BN), tl.float32)
    for row in range(start, end, BM):
        rows = row + tl.arange(0, BM)
        inside = (rows < end)[:, None] & (columns < k)[None, :]
        at = x_ptr + rows[:, None] * row_stride + columns[None, :]
        logits = _load(at, inside, center, inverse_high, inverse_low)
        maximum = tl.load(row_max_ptr + rows, mask=rows < end, other=0.0)
        weight = 1.0 / tl.load(row_sum_ptr + rows, mask=rows < end, other=1.0)
        mass += exp(logits - maximum[:, None]) * weight[:, None]
    at = (split * tl.num_programs(1) + group).to(tl.int64) * k + columns
    tl.store(mass_ptr + at, tl.sum(mass, 0), mask=columns < k)
