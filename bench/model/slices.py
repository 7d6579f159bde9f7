"""SIGReg's kernels, bound by the float32 pipes instead of the tensor cores."""

from __future__ import annotations

from sslkernels.primitives._architectures import sm_90
from sslkernels.primitives._tile_table import ceil, parts
from sslkernels.primitives.sliced_epps_pulley.triton_kernels import gradient_kernel, sums_kernel

from .compile import compile_kernel
from .loops import of_loops
from .machine import Machine
from .parts import DRAM, Part, grid, per_tile

LANES = 128  # of an SM, one float32 instruction each per clock
PIPES = LANES * Machine.multiprocessors * Machine.ghz * 1e9
ANGLE, SUM, POLYNOMIAL = 19, 4, 4  # instructions per projection, and per knot


def sigreg(views: int, n: int, d: int, m: int, knots: int) -> list[Part]:
    """Both passes over (views, n, d) samples and m given directions, in bfloat16."""
    projections = views * n * m
    tile = sm_90.SLICES[2]
    (loop,) = of_loops(compile_kernel(sums_kernel, tile, D=d, KNOTS=knots, GROUP=knots))
    blocks = views * ceil(m, tile.BM)
    tiles = ceil(ceil(n, tile.BN), parts(blocks, Machine.multiprocessors))
    splits = ceil(ceil(n, tile.BN), tiles)
    durations = [tiles * loop.clocks * loop.blocks] * (blocks * splits)
    work = projections * (ANGLE + SUM * knots)
    sums = grid("sums", durations, loop, work, per_tile(loop, tile), PIPES)

    moved = 2 * knots * m * views * 4 * (2 * splits + 1)  # written, read, and coefficients
    statistics = Part("statistics", moved / DRAM * 1e3, 0.0, f"{moved:.2e} B of DRAM")

    tile = sm_90.SLICE_GRADIENT[2][d]
    (loop,) = of_loops(compile_kernel(gradient_kernel, tile, D=d, WIDTH=d, KNOTS=knots))
    durations = [ceil(m, tile.BN) * loop.clocks * loop.blocks] * (views * ceil(n, tile.BM))
    work = projections * (ANGLE + POLYNOMIAL * knots)
    gradient = grid("gradient", durations, loop, work, per_tile(loop, tile), PIPES)
    return [sums, statistics, gradient]
