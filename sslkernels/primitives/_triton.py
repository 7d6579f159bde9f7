"""Shared by the Triton kernels: products and masks of a tile, exponentials, launches."""

import inspect
from collections.abc import Callable, Sequence
from ctypes import c_float
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arguments import INTERPRETED
from ._launcher import Kernel
from ._tile_table import Table, Tile, ceil, columns_per_split, lookup

MOST_EXCLUDED = 4  # diagonals in the fused kernels
LARGEST_TILE = 256  # rows or columns
UNIT = 16  # elements; multiples are read with wide loads
STRIDES = ("_stride", "_view", "_row", "_step")  # suffixes of their names
MATRICES = (
    "q", "k", "x", "a", "b", "own", "other", "values", "student", "teacher", "center", "out",
    "gradient", "coefficients", "product", "products", "data", "levels", "query", "key", "positive",
    "pair_weights",
)  # fmt: skip

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
NOTHING = tl.constexpr(-1e30)  # maximum of an empty set: e^(-inf - NOTHING) is 0, not NaN
LOWEST = tl.constexpr(-3.4028234663852886e38)


def kernel(function: Callable | None = None, *, widths: Sequence[str] = ()) -> Any:
    """A Triton kernel, specialised on alignments of matrices and strides, but not on sizes.

    ``widths``: sizes that are also strides. Strides of type int64 count as sizes: such kernels have
    a constant UNIT that divides them. In training, sizes change with the batch.
    """
    if function is None:
        return lambda function: kernel(function, widths=widths)
    if INTERPRETED:
        return triton.jit(function)
    annotations = {x.name: x.annotation for x in inspect.signature(function).parameters.values()}
    names = [name for name, kind in annotations.items() if kind is not tl.constexpr]
    pointers = [name for name in names if name.endswith("_ptr")]
    strides = [x for x in names if x.endswith(STRIDES) and annotations[x] is not tl.int64]
    aligned = {*widths, *strides}
    return Kernel(
        function,
        do_not_specialize=[name for name in names if name not in {*pointers, *aligned}],
        do_not_specialize_on_alignment=[
            name for name in pointers if name.removesuffix("_ptr") not in MATRICES
        ],
    )


def fuses(q: Tensor, exclude: Sequence[int]) -> bool:
    """Whether the fused kernels support it: with tensor cores, float32 only if TF32 is allowed."""
    return tensor_cores(q) and len(exclude) <= MOST_EXCLUDED


def tensor_cores(x: Tensor) -> bool:
    """Whether they can multiply x: half precision, and float32 if TF32 is allowed."""
    return x.dtype != torch.float32 or precision(x) == "tf32"


def precision(x: Tensor) -> str:
    """The precision in which tensor cores multiply x; float32 has several."""
    allowed = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed and x.dtype == torch.float32 else "ieee"


def operand(x: Tensor) -> Tensor:
    """x as the fused kernels read it: rows contiguous, at multiples of UNIT, and zero-padded to
    such a multiple. If tensor cores read it as TF32, which truncates, it is rounded first.
    """
    rounded = precision(x) == "tf32"
    if is_whole(x) and not rounded:
        return x
    n, d = x.shape
    width = padded(d)
    out = x.new_empty(n, width)
    operand_kernel[(ceil(n, 16), ceil(width, 128))](
        x, out, n, d, *x.stride(), width, ROUNDED=rounded, BM=16, BN=128, num_warps=4
    )
    return out


def is_whole(x: Tensor) -> bool:
    """Whether rows are contiguous, at multiples of UNIT, and their width such a multiple."""
    at_units = x.stride(0) % UNIT == 0 and x.data_ptr() % UNIT == 0
    return x.stride(1) == 1 and at_units and x.shape[1] % UNIT == 0


def padded(d: int) -> int:
    return UNIT * ceil(d, UNIT)


def launch(
    kernel: Any,
    programs: tuple[int, ...],
    tile: Tile,
    q: Tensor,
    k: Tensor,
    pointers: Sequence[Tensor | None],
    numbers: Sequence[float],
    exclude: Sequence[int],
    **constants: bool,
) -> Any:
    """Launch a fused kernel, all of which have this order of arguments; return the compiled one."""
    n, m = q.shape[0], k.shape[0]
    exclude = sorted(offset for offset in exclude if abs(offset) < max(n, m))
    return kernel[programs](
        q,
        k,
        *pointers,
        n,
        m,
        *numbers,
        q.stride(0),
        k.stride(0),
        *exclude,
        *[0] * (MOST_EXCLUDED - len(exclude)),
        D=q.shape[1],
        EXCLUDED=len(exclude),
        PRECISION=precision(q),
        **constants,
        **tile.arguments(),
    )


class RowKernel:
    """A fused kernel whose programs each process a block of rows and a split of the columns.

    ``both``: the rows are those of q followed by those of k; the columns are the other's rows.
    """

    def __init__(
        self,
        kernel: Any,
        table: Table,
        q: Tensor,
        k: Tensor,
        exclude: Sequence[int],
        both: bool = False,
    ) -> None:
        self.kernel, self.q, self.k, self.exclude = kernel, q, k, exclude
        self.tile, columns = lookup(table, q), k.shape[0]
        self.blocks = ceil(q.shape[0], self.tile.BM)
        if both:
            self.blocks += ceil(columns, self.tile.BM)
            columns = max(columns, q.shape[0])
        self.columns = columns_per_split(q, self.tile, columns, self.blocks)
        self.splits = ceil(columns, self.columns)

    def __call__(
        self,
        pointers: Sequence[Tensor | None],
        numbers: Sequence[float] | None = None,
        **constants: bool,
    ) -> None:
        launch(
            self.kernel,
            (self.blocks, self.splits),
            self.tile,
            self.q,
            self.k,
            pointers,
            [self.columns] if numbers is None else numbers,
            self.exclude,
            **constants,
        )


def vectors(like: Tensor, count: int, size: int) -> Tensor:
    """(count, size) in float32, with padding so that kernels may read whole tiles unmasked."""
    memory = like.new_empty(count * size + LARGEST_TILE, dtype=torch.float32)
    return memory[: count * size].view(count, size)


def total(splits: Tensor) -> Tensor:
    """The sum over splits of the columns."""
    return splits[0].contiguous() if len(splits) == 1 else splits.sum(0)


def unit(*sizes: int) -> int:
    """The constant divisor of widths and strides in kernels that read whole rows: 8 or 4 elements,
    which in half precision or float32 are 16-byte loads; else 1."""
    return next(x for x in (8, 4, 1) if not any(size % x for size in sizes))


def two_floats(x: float) -> tuple[float, float]:
    """x as a float32 and the remainder: a factor for ``scale``."""
    high = c_float(x).value
    return high, x - high


def inverse(temperature: float | Tensor) -> tuple[Tensor | None, float, float]:
    """The arguments of ``factor_of``: the temperature on a device, or its inverse in two floats."""
    if isinstance(temperature, Tensor):
        return temperature, 0.0, 0.0
    return None, *two_floats(1 / temperature)


@triton.jit
def factor_of(temperature_ptr, high, low, ON_DEVICE: tl.constexpr):
    """The inverse of a temperature, which may be known on the device only."""
    if ON_DEVICE:
        factor = 1.0 / tl.load(temperature_ptr)
        high = factor.to(tl.float32)
        low = (factor - high.to(tl.float64)).to(tl.float32)
    return high, low


@triton.jit
def round_to_tf32(x):
    """float32 rounded to TF32; NaN, whose bits a carry could turn into zero, is kept."""
    bits = x.to(tl.int32, bitcast=True) + 0x1000
    return tl.where(x != x, x, (bits & -0x2000).to(tl.float32, bitcast=True))


@triton.jit
def as_operand(x, dtype: tl.constexpr, PRECISION: tl.constexpr):
    """A float32 tile in the dtype of its factor in a product."""
    if PRECISION == "tf32":
        x = round_to_tf32(x)
    return x.to(dtype)


@kernel
def operand_kernel(
    x_ptr, out_ptr, n, d, row_stride, column_stride, out_stride,
    ROUNDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A tile of x (n, d), followed by zeros up to ``out_stride`` columns."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    inside = (rows < n)[:, None] & (columns < d)[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    if ROUNDED:
        x = round_to_tf32(x)
    at = rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    tl.store(out_ptr + at, x, mask=(rows < n)[:, None] & (columns < out_stride)[None, :])


@triton.jit
def multiple(x, UNIT: tl.constexpr):
    """x, annotated for the compiler as a multiple of UNIT."""
    return x // UNIT * UNIT


@triton.jit
def exp(x):
    return tl.exp2(x * LOG2E)


@triton.jit
def scale(x, high, low):
    """x times a factor in two floats, rounded once; also for -inf, whose product with 0 is NaN."""
    x = tl.maximum(x, LOWEST, propagate_nan=tl.PropagateNan.ALL)
    return tl.fma(x, high, x * low)


@triton.jit
def triangle(pair):
    """Row and column of an upper triangle's entry: pair = column (column + 1) / 2 + row."""
    column = ((tl.sqrt(8.0 * pair + 1.0) - 1.0) / 2.0).to(tl.int32)
    column -= (column * (column + 1) // 2 > pair).to(tl.int32)
    column += ((column + 1) * (column + 2) // 2 <= pair).to(tl.int32)
    return pair - column * (column + 1) // 2, column


@triton.jit
def load_rows(x_ptr, rows, size, stride, depths, D: tl.constexpr):
    """Rows of x, zero outside: (rows, depths)."""
    mask = (rows < size)[:, None] & (depths < D)[None, :]
    pointers = x_ptr + rows.to(tl.int64)[:, None] * stride + depths[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def product(
    q_rows, k_rows, row, column,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of q kᵀ, (BM, BN), from descriptors of their rows."""
    acc = tl.zeros((BM, BN), tl.float32)
    for depth in range(0, D, BD):
        q = q_rows.load([row, depth])
        k = k_rows.load([column, depth])
        acc = tl.dot(q, tl.trans(k), acc, input_precision=PRECISION)
    return acc


@triton.jit
def half(x, i, BM: tl.constexpr, BN: tl.constexpr):
    """The left or the right half of a tile, (BM, BN // 2)."""
    return tl.split(tl.permute(tl.reshape(x, (BM, 2, BN // 2)), (0, 2, 1)))[i]


@triton.jit
def multiply(
    q, q_rows, k_rows, row, column,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As ``product``, with the first BD depths of the rows in ``q``, for all if these are all."""
    if BD >= D:
        acc = tl.dot(q, tl.trans(k_rows.load([column, 0])), input_precision=PRECISION)
    else:
        acc = product(q_rows, k_rows, row, column, D, BM, BN, BD, PRECISION)
    return acc


# Few of the tiles [low, high) of a block of rows (or columns) contain excluded diagonals. They are
# kept as four disjoint pairs (first, count), in ascending order, so that the loops over these tiles
# and over the others find theirs without a branch.


@triton.jit
def _crossing(start, offset, low, high, LENGTH: tl.constexpr, STEP: tl.constexpr):
    first = tl.maximum(start + offset, 0) // STEP
    end = tl.maximum(start + offset + LENGTH - 1 + STEP, 0) // STEP
    first = tl.minimum(tl.maximum(first, low), high)
    return first, tl.minimum(tl.maximum(end, first), high) - first


@triton.jit
def crossings(
    start, low, high, e0, e1, e2, e3,
    EXCLUDED: tl.constexpr, LENGTH: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """The tiles of rows [start, start + LENGTH) with diagonals column - row = e, in order."""
    f0, c0, f1, c1, f2, c2, f3, c3 = low, 0, low, 0, low, 0, low, 0
    if EXCLUDED > 0:
        f0, c0 = _crossing(start, e0, low, high, LENGTH, STEP)
    if EXCLUDED > 1:
        f1, c1 = _crossing(start, e1, f0 + c0, high, LENGTH, STEP)
    if EXCLUDED > 2:
        f2, c2 = _crossing(start, e2, f1 + c1, high, LENGTH, STEP)
    if EXCLUDED > 3:
        f3, c3 = _crossing(start, e3, f2 + c2, high, LENGTH, STEP)
    return f0, c0, f1, c1, f2, c2, f3, c3


@triton.jit
def count_of(crossed):
    _, c0, _, c1, _, c2, _, c3 = crossed
    return c0 + c1 + c2 + c3


@triton.jit
def plain_tile(t, crossed, EXCLUDED: tl.constexpr):
    """The t-th tile among those without excluded diagonals."""
    f0, c0, f1, c1, f2, c2, f3, c3 = crossed
    if EXCLUDED > 0:
        t += tl.where(t >= f0, c0, 0)
    if EXCLUDED > 1:
        t += tl.where(t >= f1, c1, 0)
    if EXCLUDED > 2:
        t += tl.where(t >= f2, c2, 0)
    if EXCLUDED > 3:
        t += tl.where(t >= f3, c3, 0)
    return t


@triton.jit
def other_tile(i, crossed, high, EXCLUDED: tl.constexpr):
    """The i-th tile with excluded diagonals, followed by the tiles from ``high`` on."""
    f0, c0, f1, c1, f2, c2, f3, c3 = crossed
    t = high + i - count_of(crossed)
    if EXCLUDED > 3:
        t = tl.where(i < c0 + c1 + c2 + c3, f3 + i - c0 - c1 - c2, t)
    if EXCLUDED > 2:
        t = tl.where(i < c0 + c1 + c2, f2 + i - c0 - c1, t)
    if EXCLUDED > 1:
        t = tl.where(i < c0 + c1, f1 + i - c0, t)
    if EXCLUDED > 0:
        t = tl.where(i < c0, f0 + i, t)
    return t


@triton.jit
def mirrored(is_mirrored, e0, e1, e2, e3, EXCLUDED: tl.constexpr):
    """The diagonals of the transpose, also in ascending order."""
    if EXCLUDED == 1:
        e0 = tl.where(is_mirrored, -e0, e0)
    if EXCLUDED == 2:
        e0, e1 = tl.where(is_mirrored, -e1, e0), tl.where(is_mirrored, -e0, e1)
    if EXCLUDED == 3:
        e1 = tl.where(is_mirrored, -e1, e1)
        e0, e2 = tl.where(is_mirrored, -e2, e0), tl.where(is_mirrored, -e0, e2)
    if EXCLUDED == 4:
        e0, e3 = tl.where(is_mirrored, -e3, e0), tl.where(is_mirrored, -e0, e3)
        e1, e2 = tl.where(is_mirrored, -e2, e1), tl.where(is_mirrored, -e1, e2)
    return e0, e1, e2, e3


@triton.jit
def leave_out(logits, rows, cols, e0, e1, e2, e3, EXCLUDED: tl.constexpr):
    """-inf on excluded diagonals."""
    if EXCLUDED > 0:  # comparing vectors: their differences would fill the registers
        logits = tl.where(cols[None, :] == (rows + e0)[:, None], float("-inf"), logits)
    if EXCLUDED > 1:
        logits = tl.where(cols[None, :] == (rows + e1)[:, None], float("-inf"), logits)
    if EXCLUDED > 2:
        logits = tl.where(cols[None, :] == (rows + e2)[:, None], float("-inf"), logits)
    if EXCLUDED > 3:
        logits = tl.where(cols[None, :] == (rows + e3)[:, None], float("-inf"), logits)
    return logits


@triton.jit
def _crosses(row, column, offset, BM: tl.constexpr, BN: tl.constexpr):
    """Whether the diagonal j - i = offset passes through the tile."""
    return (offset > column - row - BM) & (offset < column - row + BN)


@triton.jit
def mask_tile(
    logits, row, column, n, m, e0, e1, e2, e3,
    EXCLUDED: tl.constexpr, TRIANGLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Put -inf outside the matrix and on excluded diagonals, in the few tiles that have any.

    A triangle keeps columns from the row on.
    """
    special = (row + BM > n) | (column + BN > m)
    if TRIANGLE:
        special = special | (column < row + BM)
    if EXCLUDED > 0:
        special = special | _crosses(row, column, e0, BM, BN)
    if EXCLUDED > 1:
        special = special | _crosses(row, column, e1, BM, BN)
    if EXCLUDED > 2:
        special = special | _crosses(row, column, e2, BM, BN)
    if EXCLUDED > 3:
        special = special | _crosses(row, column, e3, BM, BN)
    if special:
        rows = row + tl.arange(0, BM)
        cols = column + tl.arange(0, BN)
        logits = leave_out(logits, rows, cols, e0, e1, e2, e3, EXCLUDED)
        if TRIANGLE:  # implies rows < n
            logits = tl.where(cols[None, :] >= rows[:, None], logits, float("-inf"))
        else:
            logits = tl.where((rows < n)[:, None], logits, float("-inf"))
        logits = tl.where((cols < m)[None, :], logits, float("-inf"))
    return logits
