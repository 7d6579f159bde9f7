"""Predicted times of the pair kernels on an H100, by a model; nothing here is measured.

    python -m bench.model

needs no GPU: kernels are compiled for sm_90, their loops simulated on a quarter of a
multiprocessor with the control bits that ptxas wrote, and a grid's programs distributed to the
slots of 132 of them. The error is about ±15 % with one block per multiprocessor; with more it is
optimistic. Library products are not simulated: they count with LIBRARY of FLOPs, or their bytes if
these take longer. The results go to bench/results/model-h100/.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import triton

from bench.machine import commit
from sslkernels.primitives._architectures import sm_90
from sslkernels.primitives._tile_table import MOST_BLOCKS, Tile, ceil, parts
from sslkernels.primitives.contrastive.triton_kernels import sigmoid_kernel
from sslkernels.primitives.nearest_neighbor.triton_kernels import nearest_kernel
from sslkernels.primitives.pairwise_logsumexp.triton_backward import (
    backward_kernel,
    weights_kernel,
)
from sslkernels.primitives.pairwise_logsumexp.triton_kernels import (
    deep_forward_kernel,
    forward_kernel,
)
from sslkernels.primitives.pairwise_softplus import triton_kernels as softplus

from .compile import compile_kernel
from .loops import Clocks, of_loops, of_pieces
from .machine import Machine
from .parts import DRAM, LIBRARY, Part, grid, per_tile
from .slices import sigreg

RESULTS = Path(__file__).parents[1] / "results" / "model-h100"
FUSED = {"PARTS": True, "INVERSE": True}  # raw rows in bfloat16, and their inverse lengths
UNLABELLED = {"LABELS": False}


def plain_and_special(loops: list[Clocks]) -> tuple[Clocks, Clocks]:
    """Of the loops over whole tiles, the one without masks and the one with masks."""
    largest = max(x.products for x in loops)
    found = sorted((x for x in loops if x.products == largest), key=lambda x: x.clocks)
    return found[0], found[-1]


def triangle_forward(n: int, d: int) -> Part:
    """Two views, whose pairs are on diagonals n / 2 apart."""
    tile = sm_90.FORWARD[2][d]
    kernel = compile_kernel(
        forward_kernel, tile, D=d, EXCLUDED=3, TRIANGLE=True, ROWS=True, **FUSED
    )
    plain, special = plain_and_special(of_loops(kernel))
    blocks, side = blocks_of(n, tile)
    durations = []
    for column_block in range(blocks):
        for row_block in range(column_block + 1):
            masked = total = 0
            for column in range(column_block * side, min(n, (column_block + 1) * side), tile.BN):
                first = row_block * side // tile.BM
                end = min(ceil(min((row_block + 1) * side, n), tile.BM),
                          ceil(column + tile.BN, tile.BM))  # fmt: skip
                crossed = {
                    t
                    for offset in (-n // 2, 0, n // 2)
                    for t in range((column + offset) // tile.BM,
                                   (column + offset + tile.BN - 1) // tile.BM + 1)
                    if first <= t < end
                }  # fmt: skip
                masked += len(crossed)
                total += max(end - first, 0)
            clocks = (total - masked) * plain.clocks + masked * special.clocks
            durations.append(clocks * plain.blocks)
    detail = f"{plain.clocks:.0f} clk per {tile.BM}x{tile.BN} (products {plain.products:.0f}), "
    detail += f"on a diagonal {special.clocks:.0f}"
    return grid("log-sum-exp, symmetric", durations, plain, n * n * d, detail)


def blocks_of(n: int, tile: Tile) -> tuple[int, int]:
    step = max(tile.BM, tile.BN)
    side = step * max(1, ceil(ceil(n, step), MOST_BLOCKS))
    return ceil(n, side), side


def rows_forward(n: int, m: int, d: int) -> Part:
    """Row sums of the queries alone."""
    if d <= max(sm_90.FORWARD[2]):
        tile = sm_90.FORWARD[2][d]
        kernel = compile_kernel(
            forward_kernel, tile, D=d, EXCLUDED=0, TRIANGLE=False, ROWS=False, **FUSED
        )
        loop, _ = plain_and_special(of_loops(kernel))
        stay, stream = tile.BN, tile.BM
    else:
        tile = sm_90.DEEP[2]
        kernel = compile_kernel(
            deep_forward_kernel, tile, D=d, EXCLUDED=0, TRIANGLE=False, COLUMNS=False,
            INVERSE=True, **UNLABELLED,
        )  # fmt: skip
        loop = in_pieces(kernel, tile, d)
        stay, stream = tile.BM, tile.BN
    splits = parts(ceil(n, stay), Machine.multiprocessors)
    tiles = ceil(ceil(m, stream), splits)
    durations = [tiles * loop.clocks * loop.blocks] * (ceil(n, stay) * ceil(ceil(m, stream), tiles))
    return grid("log-sum-exp of rows", durations, loop, 2 * n * m * d, per_tile(loop, tile))


def in_pieces(kernel: object, tile: Tile, d: int) -> Clocks:
    return of_pieces(kernel, ceil(d, tile.BD), (tile.BM + tile.BN) * d * 2)  # type: ignore[arg-type]


def both_forward(n: int, m: int, d: int) -> Part:
    """Row sums of queries and keys."""
    tile = sm_90.DEEP[2]
    kernel = compile_kernel(
        deep_forward_kernel, tile, D=d, EXCLUDED=1, TRIANGLE=False, COLUMNS=True, INVERSE=True,
        **UNLABELLED,
    )  # fmt: skip
    loop = in_pieces(kernel, tile, d)
    blocks, side = blocks_of(max(n, m), tile)
    tiles = (side // tile.BM) * (side // tile.BN)
    durations = [tiles * loop.clocks * loop.blocks] * blocks**2
    return grid("log-sum-exp, both ways", durations, loop, 2 * n * m * d, per_tile(loop, tile))


def fused_backward(n: int, m: int, d: int, excluded: int, both: bool, part: str) -> Part:
    tile = sm_90.BACKWARD[2][d]
    if part == "sigmoid":
        kernel = compile_kernel(
            sigmoid_kernel, tile, D=d, EXCLUDED=excluded, BOTH=both, INVERSE=True, GRADIENT=True
        )
    else:
        kernel = compile_kernel(
            backward_kernel, tile, D=d, EXCLUDED=excluded, ROW=True, COLUMN=True, BOTH=both,
            SCALE=both, **FUSED, **UNLABELLED,
        )  # fmt: skip
    plain, special = plain_and_special(of_loops(kernel))
    tiles = ceil(m, tile.BN)
    masked = min(tiles, excluded * ceil(tile.BM, tile.BN))
    clocks = (tiles - masked) * plain.clocks + masked * special.clocks
    programs = ceil(n, tile.BM) + (ceil(m, tile.BM) if both else 0)
    detail = f"{per_tile(plain, tile)}, on a diagonal {special.clocks:.0f}"
    flops = 4 * n * m * d * (2 if both else 1)
    return grid(part, [clocks * plain.blocks] * programs, plain, flops, detail)


def deep_backward(n: int, m: int, d: int, both: bool, form: str) -> list[Part]:
    """Weights, written to memory, and products with them."""
    tile = sm_90.WEIGHTS[2]
    if form == "sigmoid":
        kernel = compile_kernel(
            softplus.weights_kernel, tile, D=d, EXCLUDED=1, INVERSE=True, grad_ptr=None
        )
    else:
        kernel = compile_kernel(weights_kernel, tile, D=d, EXCLUDED=1, COLUMN=both, INVERSE=True)
    loop = in_pieces(kernel, tile, d)
    loop = loop._replace(clocks=max(loop.clocks, tile.BM * tile.BN * 2 / Machine.dram_bytes))
    programs = ceil(n, tile.BM)
    splits = parts(programs, Machine.multiprocessors)
    tiles = ceil(ceil(m, tile.BN), splits)
    durations = [tiles * loop.clocks * loop.blocks] * (programs * ceil(ceil(m, tile.BN), tiles))
    weights = grid(f"weights, {form}", durations, loop, 2 * n * m * d, per_tile(loop, tile))
    products = 2 if both else 1
    flops, read = 2 * n * m * d, n * m * 2
    ms = max(flops / LIBRARY, read / DRAM) * 1e3
    detail = f"{flops:.2e} FLOP at {LIBRARY / 1e12:.0f} TFLOP/s, {read:.2e} B"
    return [weights, *[Part("product of the library, not simulated", ms, flops, detail)] * products]


def nearest(n: int, m: int, d: int) -> Part:
    tile = sm_90.ROWS[2][d]
    kernel = compile_kernel(nearest_kernel, tile, D=d, EXCLUDED=0)
    (loop, *_) = sorted(of_loops(kernel), key=lambda x: x.clocks)
    splits = parts(ceil(n, tile.BM), Machine.multiprocessors)
    tiles = ceil(ceil(m, tile.BN), splits)
    durations = [tiles * loop.clocks * loop.blocks] * (
        ceil(n, tile.BM) * ceil(ceil(m, tile.BN), tiles)
    )
    return grid("nearest neighbour", durations, loop, 2 * n * m * d, per_tile(loop, tile))


def passes(rows: int, d: int, slots: float) -> Part:
    """Passes over the rows in DRAM: preparation, float32 gradients written and read, derivatives
    written; and the partial sums of the forward kernel."""
    read = rows * d * (2 + 2 + 4 + 4 + 2 + 2) + rows * slots * 16
    return Part("passes over rows", read / DRAM * 1e3, 0.0, f"{read:.2e} B of DRAM")


def losses() -> dict[str, tuple[float | None, float | None, list[Part]]]:
    """Each loss with its goals: milliseconds, and a share of the roof."""
    n = 65536
    clip = 16384
    rows = 2 * clip
    clip_parts = [both_forward(clip, clip, 512), *deep_backward(clip, clip, 512, True, "softmax")]
    sigmoid_parts = deep_backward(clip, clip, 512, True, "sigmoid")
    return {
        f"NT-Xent {n}x128": (5.3, None, [
            triangle_forward(n, 128), fused_backward(n, n, 128, 3, False, "gradient"),
            passes(n, 128, MOST_BLOCKS),
        ]),
        f"log-sum-exp of rows 8192x{n}x128": (None, 0.6, [rows_forward(8192, n, 128)]),
        f"log-sum-exp of rows 8192x{n}x512": (None, 0.6, [rows_forward(8192, n, 512)]),
        f"its backward pass {clip}x{clip}x256": (
            None, 0.5, [fused_backward(clip, clip, 256, 0, False, "gradient")]
        ),
        f"its backward pass {clip}x{clip}x512": (
            None, 0.5, deep_backward(clip, clip, 512, False, "softmax")
        ),
        f"CLIP {clip}x512": (2.8, None, [*clip_parts, passes(rows, 512, MOST_BLOCKS / 2)]),
        f"SigLIP {clip}x512": (2.2, None, [*sigmoid_parts, passes(rows, 512, 0)]),
        f"nearest neighbour 8192x{n}x128": (None, 0.6, [nearest(8192, n, 128)]),
        "SIGReg 8x2048x128, 1024 directions, 17 knots": (
            None, 0.5, sigreg(8, 2048, 128, 1024, 16)
        ),
    }  # fmt: skip


def main() -> None:
    """Predict, print and save."""
    rows, lines = {}, [HEAD.format(triton=triton.__version__)]
    for name, (goal_ms, goal_share, of_loss) in losses().items():
        ms = sum(x.ms for x in of_loss)
        share = sum(x.flops / x.roof for x in of_loss) / ms * 1e3
        goal = f"{goal_ms} ms" if goal_ms else f"{100 * goal_share:.0f} %"  # type: ignore[operator]
        row = f"| **{name}** | {ms:.2f} | {100 * share:.0f} % | {goal} | |"
        lines += [row]
        lines += [f"| {x.name} | {x.ms:.2f} | {100 * x.of_roof:.0f} % | | {x.detail} |"
                  for x in of_loss]  # fmt: skip
        rows[name] = {
            "ms": ms, "share_of_roof": share, "goal_ms": goal_ms, "goal_share": goal_share,
            "parts": [x._asdict() for x in of_loss],
        }  # fmt: skip
        print(row, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = f"triton-{triton.__version__}"
    content = {
        "modelled": True, "command": "python -m bench.model", "commit": commit(),
        "torch": torch.__version__, "triton": triton.__version__, "rows": rows,
    }  # fmt: skip
    (RESULTS / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text("\n".join(lines) + "\n")


HEAD = """\
# Predicted for an H100, Triton {triton}, bfloat16

Written by `python -m bench.model`: **modelled, nothing here was measured.** The roof is 892
TFLOP/s; what a user would count as FLOPs, so a symmetric matrix half. SIGReg's is the float32
pipes, 128 instructions per clock of a multiprocessor. Of a loss forward and backward; launches and
the host's time are left out.

| | ms | of the roof | goal | |
| --- | --- | --- | --- | --- |"""


if __name__ == "__main__":
    main()
