"""The Triton kernels; their launchers are in triton.py.

A program processes one block of one row: all teachers at once, T padded to VIEWS, then the students
one after another, so that it reads each logit once. Teachers are at equal distances, students
anywhere: ``view1`` … are their distances from the first, possibly in separate allocations. UNIT
divides K, distances and strides.
"""

import triton
import triton.language as tl

from .._triton import NOTHING, exp, factor_of, kernel, multiple, scale


@triton.jit
def _place(K, BLOCK: tl.constexpr):
    """This program's row, and its columns (1, BLOCK)."""
    blocks = tl.cdiv(K, BLOCK)
    first = tl.program_id(0) % blocks * BLOCK
    return tl.program_id(0) // blocks, first + tl.arange(0, BLOCK)[None, :]


@triton.jit
def _teacher(
    teacher_ptr, center_ptr, row, columns, T, K,
    view_stride, row_stride, center_view, center_step, centers, high, low,
    CENTER: tl.constexpr, PROBABILITIES: tl.constexpr, UNIT: tl.constexpr, VIEWS: tl.constexpr,
):  # fmt: skip
    """The teachers' logits of a block, centred and scaled, or probabilities: (VIEWS, BLOCK)."""
    views = tl.arange(0, VIEWS)[:, None]
    inside = (views < T) & (columns < K)
    at = views * multiple(view_stride, UNIT) + row * multiple(row_stride, UNIT) + columns
    x = tl.load(teacher_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if CENTER:
        turn = row % centers
        at = views * multiple(center_view, UNIT) + turn * multiple(center_step, UNIT) + columns
        x -= tl.load(center_ptr + at, mask=inside, other=0.0)
    if not PROBABILITIES:
        x = tl.where(inside, scale(x, high, low), float("-inf"))
    return x


@triton.jit
def _student(student_ptr, columns, K, high, low):
    """A student's logits of a block, scaled: (1, BLOCK)."""
    x = tl.load(student_ptr + columns, mask=columns < K, other=0.0).to(tl.float32)
    return tl.where(columns < K, scale(x, high, low), NOTHING)


@triton.jit
def _distance(
    s, view1, view2, view3, view4, view5, view6, view7, view8, view9, view10, view11, view12,
    view13, view14, view15,
):  # fmt: skip
    """The distance of student s."""
    at = tl.where(s == 1, view1, 0)
    at = tl.where(s == 2, view2, at)
    at = tl.where(s == 3, view3, at)
    at = tl.where(s == 4, view4, at)
    at = tl.where(s == 5, view5, at)
    at = tl.where(s == 6, view6, at)
    at = tl.where(s == 7, view7, at)
    at = tl.where(s == 8, view8, at)
    at = tl.where(s == 9, view9, at)
    at = tl.where(s == 10, view10, at)
    at = tl.where(s == 11, view11, at)
    at = tl.where(s == 12, view12, at)
    at = tl.where(s == 13, view13, at)
    at = tl.where(s == 14, view14, at)
    return tl.where(s == 15, view15, at)


@triton.jit
def _pairs(pairs_ptr, s, first, views, T, weight, SAME: tl.constexpr):
    """The weights of student s for the teachers: (VIEWS, 1)."""
    if pairs_ptr is not None:
        return tl.load(pairs_ptr + s * T + views, mask=views < T, other=0.0)
    else:
        counts = views < T
        if not SAME:
            counts = counts & (views != first + s)
        return tl.where(counts, weight, 0.0)


@kernel
def forward_kernel(
    student_ptr, teacher_ptr, center_ptr, student_temperature_ptr,
    teacher_temperature_ptr, partials_ptr, S, T, K,
    view1: tl.int64, view2: tl.int64, view3: tl.int64, view4: tl.int64, view5: tl.int64,
    view6: tl.int64, view7: tl.int64, view8: tl.int64, view9: tl.int64, view10: tl.int64,
    view11: tl.int64, view12: tl.int64, view13: tl.int64, view14: tl.int64, view15: tl.int64,
    student_row: tl.int64, teacher_view: tl.int64, teacher_row: tl.int64,
    center_view: tl.int64, center_step: tl.int64, centers,
    student_high, student_low, teacher_high, teacher_low,
    CENTER: tl.constexpr, PROBABILITIES: tl.constexpr, ON_DEVICE: tl.constexpr,
    UNIT: tl.constexpr, VIEWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The statistics of one block. partials: (2 S + 2 T + S T, rows · blocks), in their order."""
    K = multiple(K, UNIT)
    student_high, student_low = factor_of(
        student_temperature_ptr, student_high, student_low, ON_DEVICE
    )
    teacher_high, teacher_low = factor_of(
        teacher_temperature_ptr, teacher_high, teacher_low, ON_DEVICE and not PROBABILITIES
    )
    row, columns = _place(K, BLOCK)
    weights = _teacher(
        teacher_ptr, center_ptr, row, columns, T, K, teacher_view, teacher_row,
        center_view, center_step, centers, teacher_high, teacher_low,
        CENTER, PROBABILITIES, UNIT, VIEWS,
    )  # fmt: skip
    teacher_max = tl.zeros((VIEWS, 1), tl.float32)
    if not PROBABILITIES:
        teacher_max = tl.maximum(tl.max(weights, 1, keep_dims=True), NOTHING)
        weights = exp(weights - teacher_max)
    step = tl.num_programs(0).to(tl.int64)
    partials_ptr += tl.program_id(0)
    views = tl.arange(0, VIEWS)[:, None]
    of_teachers = partials_ptr + (2 * S + views) * step
    tl.store(of_teachers, teacher_max, mask=views < T)
    tl.store(of_teachers + T * step, tl.sum(weights, 1, keep_dims=True), mask=views < T)
    student_ptr += row * multiple(student_row, UNIT)
    for s in range(S):
        view = _distance(
            s, view1, view2, view3, view4, view5, view6, view7, view8, view9, view10, view11,
            view12, view13, view14, view15,
        )  # fmt: skip
        at = student_ptr + multiple(view, UNIT)
        logits = _student(at, columns, K, student_high, student_low)
        student_max = tl.maximum(tl.max(logits), NOTHING)
        below = student_max - logits
        tl.store(partials_ptr + s * step, student_max)
        tl.store(partials_ptr + (S + s) * step, tl.sum(exp(-below)))
        cost = tl.sum(weights * below, 1, keep_dims=True)  # (VIEWS, 1)
        tl.store(of_teachers + (2 * T + s * T) * step, cost, mask=views < T)


@kernel
def combine_kernel(
    partials_ptr, student_max_ptr, student_sum_ptr, teacher_max_ptr, teacher_sum_ptr, cost_ptr,
    pairs_ptr, S, T, blocks, first, weight,
    ENTROPIES: tl.constexpr, PROBABILITIES: tl.constexpr, SAME: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """A row's statistics from those of its blocks, for one student and every teacher.

    cost: (S, T, rows); or, if ``ENTROPIES``, cross-entropies (S, rows). first: of these students.
    """
    row = tl.program_id(0)
    s = tl.program_id(1)
    rows = tl.num_programs(0)
    step = rows.to(tl.int64) * blocks
    block = tl.arange(0, BLOCKS)
    inside = block < blocks
    partials_ptr += row.to(tl.int64) * blocks + block
    maxima = tl.load(partials_ptr + s * step, mask=inside, other=NOTHING)
    sums = tl.load(partials_ptr + (S + s) * step, mask=inside, other=0.0)
    student_max = tl.max(maxima, 0)
    shift = student_max - maxima
    tl.store(student_max_ptr + s * rows + row, student_max)
    student_sum = tl.sum(sums * exp(-shift), 0)
    tl.store(student_sum_ptr + s * rows + row, student_sum)
    total = 0.0
    for t in range(T):
        maxima = tl.load(partials_ptr + (2 * S + t) * step, mask=inside, other=NOTHING)
        sums = tl.load(partials_ptr + (2 * S + T + t) * step, mask=inside, other=0.0)
        costs = tl.load(partials_ptr + (2 * S + 2 * T + s * T + t) * step, mask=inside, other=0.0)
        teacher_max = tl.max(maxima, 0)
        kept = exp(maxima - teacher_max)
        tl.store(teacher_max_ptr + t * rows + row, teacher_max)
        teacher_sum = tl.sum(sums * kept, 0)
        tl.store(teacher_sum_ptr + t * rows + row, teacher_sum)
        cost = tl.sum(kept * (costs + shift * sums), 0)
        if ENTROPIES:
            if PROBABILITIES:
                entropy = teacher_sum * tl.log(student_sum) + cost
            else:
                entropy = tl.log(student_sum) + cost / teacher_sum
            if pairs_ptr is not None:
                pair = tl.load(pairs_ptr + s * T + t)
            else:
                pair = weight
                if not SAME:
                    pair = tl.where(first + s == t, 0.0, weight)
            total += tl.where(pair == 0.0, 0.0, pair * entropy)  # pairs with weight 0 may be NaN
        else:
            tl.store(cost_ptr + (s * T + t).to(tl.int64) * rows + row, cost)
    if ENTROPIES:
        tl.store(cost_ptr + s * rows + row, total)


@kernel
def backward_kernel(
    student_ptr, teacher_ptr, center_ptr, student_temperature_ptr,
    teacher_temperature_ptr, student_max_ptr, student_sum_ptr,
    teacher_max_ptr, teacher_sum_ptr, pairs_ptr, row_grad_ptr, out_ptr, S, T, K,
    view1: tl.int64, view2: tl.int64, view3: tl.int64, view4: tl.int64, view5: tl.int64,
    view6: tl.int64, view7: tl.int64, view8: tl.int64, view9: tl.int64, view10: tl.int64,
    view11: tl.int64, view12: tl.int64, view13: tl.int64, view14: tl.int64, view15: tl.int64,
    student_row: tl.int64, teacher_view: tl.int64, teacher_row: tl.int64,
    center_view: tl.int64, center_step: tl.int64, centers,
    student_high, student_low, teacher_high, teacher_low,
    out_view: tl.int64, out_row: tl.int64, grad_view: tl.int64, grad_row: tl.int64, first, weight,
    CENTER: tl.constexpr, PROBABILITIES: tl.constexpr, ON_DEVICE: tl.constexpr,
    SAME: tl.constexpr, UNIT: tl.constexpr, VIEWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Every student's gradient of one block; ``out`` may be the students."""
    K = multiple(K, UNIT)
    student_high, student_low = factor_of(
        student_temperature_ptr, student_high, student_low, ON_DEVICE
    )
    teacher_high, teacher_low = factor_of(
        teacher_temperature_ptr, teacher_high, teacher_low, ON_DEVICE and not PROBABILITIES
    )
    row, columns = _place(K, BLOCK)
    rows = tl.num_programs(0) // tl.cdiv(K, BLOCK)
    views = tl.arange(0, VIEWS)[:, None]
    weights = _teacher(
        teacher_ptr, center_ptr, row, columns, T, K, teacher_view, teacher_row,
        center_view, center_step, centers, teacher_high, teacher_low,
        CENTER, PROBABILITIES, UNIT, VIEWS,
    )  # fmt: skip
    mass = tl.load(teacher_sum_ptr + views * rows + row, mask=views < T, other=1.0)
    if not PROBABILITIES:
        teacher_max = tl.load(teacher_max_ptr + views * rows + row, mask=views < T, other=0.0)
        weights = exp(weights - teacher_max) * (1.0 / mass)
        mass = tl.full((VIEWS, 1), 1.0, tl.float32)
    student_ptr += row * multiple(student_row, UNIT)
    row_grad_ptr += row * grad_row
    out_view = multiple(out_view, UNIT)
    out_ptr += row * multiple(out_row, UNIT)
    for s in range(S):
        student_max = tl.load(student_max_ptr + s * rows + row)
        student_sum = tl.load(student_sum_ptr + s * rows + row)
        factor = tl.load(row_grad_ptr + s * grad_view) * student_high
        pair = _pairs(pairs_ptr, s, first, views, T, weight, SAME)
        # pairs with weight 0 may be NaN
        target = tl.sum(tl.where(pair == 0.0, 0.0, pair * weights), 0, keep_dims=True)
        total = tl.sum(tl.where(pair == 0.0, 0.0, pair * mass), 0, keep_dims=True)  # (1, 1)
        view = _distance(
            s, view1, view2, view3, view4, view5, view6, view7, view8, view9, view10, view11,
            view12, view13, view14, view15,
        )  # fmt: skip
        at = student_ptr + multiple(view, UNIT)
        logits = _student(at, columns, K, student_high, student_low)
        gradient = factor * (exp(logits - student_max) * (total / student_sum) - target)
        tl.store(out_ptr + columns, gradient.to(out_ptr.dtype.element_ty), mask=columns < K)
        out_ptr += out_view
