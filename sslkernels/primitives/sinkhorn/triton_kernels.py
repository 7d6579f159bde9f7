"""The Triton kernels; their launchers are in triton.py.

x: logits (C, n, k), columns contiguous. ``inverse_high`` and ``inverse_low`` are the inverse of
epsilon in two floats; with ON_DEVICE, epsilon is read on the device instead. With COUNTED, rows
from ``count`` on are not read. UNIT divides k and strides.
"""

import triton
import triton.language as tl

from .._triton import NOTHING, exp, factor_of, kernel, multiple, scale


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
    x_ptr, count_ptr, epsilon_ptr, center_ptr, max_ptr, sum_ptr, n, k, blocks_per_split,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, ON_DEVICE: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Maximum and sum of exponentials of one row over one split of columns: (splits, C, n)."""
    row, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if row >= _rows_that_count(count_ptr, n, COUNTED):
        return
    k = multiple(k, UNIT)
    inverse_high, inverse_low = factor_of(epsilon_ptr, inverse_high, inverse_low, ON_DEVICE)
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
    x_ptr, count_ptr, epsilon_ptr, max_ptr, sum_ptr, n, k, steps_per_split,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, ON_DEVICE: tl.constexpr, UNIT: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Maximum and sum of exponentials of columns over a split of the rows: (splits, C, k)."""
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    group, split = tl.program_id(1), tl.program_id(2)
    start = split * steps_per_split * BM
    end = tl.minimum(start + steps_per_split * BM, _rows_that_count(count_ptr, n, COUNTED))
    k = multiple(k, UNIT)
    inverse_high, inverse_low = factor_of(epsilon_ptr, inverse_high, inverse_low, ON_DEVICE)
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


@triton.jit
def _combined(max_ptrs, sum_ptrs, inside, splits, step, BLOCK: tl.constexpr):
    """Maximum and sum of exponentials over splits; 0 and 1 outside."""
    maximum = tl.where(inside, tl.full((BLOCK,), NOTHING, tl.float32), 0.0)
    total = tl.where(inside, tl.zeros((BLOCK,), tl.float32), 1.0)
    for _ in range(splits):
        more_max = tl.load(max_ptrs, mask=inside, other=0.0)
        more = tl.load(sum_ptrs, mask=inside, other=0.0)
        best = tl.maximum(maximum, more_max)
        total = total * exp(maximum - best) + more * exp(more_max - best)
        maximum = best
        max_ptrs += step
        sum_ptrs += step
    return maximum, total


@kernel
def center_kernel(
    center_ptr, largest_ptr, max_ptr, sum_ptr, new_center_ptr, new_largest_ptr, epsilon_ptr,
    k, splits, epsilon,
    FIRST: tl.constexpr, ON_DEVICE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of the centre (C, k), from the prototypes' masses, sum (splits, C, k).

    These are relative to the largest of the last iteration, whose values by block are in largest,
    (C, programs). ``FIRST``: the masses are those of the columns kernel, with max, and there is no
    last iteration.
    """
    block, group = tl.program_id(0), tl.program_id(1)
    if ON_DEVICE:
        epsilon = tl.load(epsilon_ptr).to(tl.float32)
    columns = block * BLOCK + tl.arange(0, BLOCK)
    inside = columns < k
    step = tl.num_programs(1).to(tl.int64) * k
    at = group.to(tl.int64) * k + columns
    if FIRST:
        maximum, total = _combined(max_ptr + at, sum_ptr + at, inside, splits, step, BLOCK)
        log_mass = maximum + tl.log(total)
        center = epsilon * log_mass
    else:
        total = tl.zeros((BLOCK,), tl.float32)
        sums = sum_ptr + at
        for _ in range(splits):
            total += tl.load(sums, mask=inside, other=0.0)
            sums += step
        log_mass = tl.log(total)
        largest_ptr += group * tl.num_programs(0)
        relative = tl.full((128,), NOTHING, tl.float32)
        for start in range(0, tl.num_programs(0), 128):
            i = start + tl.arange(0, 128)
            more = tl.load(largest_ptr + i, mask=i < tl.num_programs(0), other=NOTHING)
            relative = tl.maximum(relative, more)
        center = tl.load(center_ptr + at, mask=inside, other=0.0)
        center += epsilon * (log_mass - tl.max(relative, 0))
    # 0 for prototypes without mass
    center = tl.where(center == float("-inf"), 0.0, center)
    tl.store(new_center_ptr + at, center, mask=inside)
    largest = 0.0  # the second iteration's masses have no reference
    if not FIRST:
        largest = tl.maximum(tl.max(tl.where(inside, log_mass, NOTHING), 0), NOTHING)
    tl.store(new_largest_ptr + group * tl.num_programs(0) + block, largest)


@kernel
def masses_kernel(
    x_ptr, count_ptr, epsilon_ptr, center_ptr, row_max_ptr, row_sum_ptr, mass_ptr, n, k,
    steps_per_split, row_splits,
    group_stride: tl.int64, row_stride: tl.int64, inverse_high, inverse_low,
    COUNTED: tl.constexpr, ON_DEVICE: tl.constexpr, UNIT: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Masses of a block of columns over one split of the plan's rows: (splits, C, k).

    row_max, row_sum: from the rows kernel, (row_splits, C, n).
    """
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    group, split = tl.program_id(1), tl.program_id(2)
    start = split * steps_per_split * BM
    end = tl.minimum(start + steps_per_split * BM, _rows_that_count(count_ptr, n, COUNTED))
    k = multiple(k, UNIT)
    inverse_high, inverse_low = factor_of(epsilon_ptr, inverse_high, inverse_low, ON_DEVICE)
    row_stride = multiple(row_stride, UNIT)
    x_ptr += group * multiple(group_stride, UNIT)
    row_max_ptr += group.to(tl.int64) * n
    row_sum_ptr += group.to(tl.int64) * n
    step = tl.num_programs(1).to(tl.int64) * n
    center_ptr += group.to(tl.int64) * k
    center = tl.load(center_ptr + columns, mask=columns < k, other=0.0)[None, :]
    mass = tl.zeros((BM, BN), tl.float32)
    for row in range(start, end, BM):
        rows = row + tl.arange(0, BM)
        inside = (rows < end)[:, None] & (columns < k)[None, :]
        at = x_ptr + rows[:, None] * row_stride + columns[None, :]
        logits = _load(at, inside, center, inverse_high, inverse_low)
        maximum, total = _combined(
            row_max_ptr + rows, row_sum_ptr + rows, rows < end, row_splits, step, BM
        )
        mass += exp(logits - maximum[:, None]) * (1.0 / total)[:, None]
    at = (split * tl.num_programs(1) + group).to(tl.int64) * k + columns
    tl.store(mass_ptr + at, tl.sum(mass, 0), mask=columns < k)
