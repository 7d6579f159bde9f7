"""Clocks per tile of the main loops, beside those that `bench/model` predicts for an H100.

The model reads a kernel's machine code and simulates a quarter of an SM. Its figures here are for
these kernels as Triton 3.6.0 compiles them; they are predictions, not measurements. Each kernel
runs in one whole wave, so that clocks = time x clock rate x SMs / tiles. The loops of the first
group hold the whole depth, and two or three blocks of an SM overlap; the second's split the depth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sslkernels.primitives._tile_table import Tile, multiprocessors
from sslkernels.primitives._triton import launch
from sslkernels.primitives.pairwise_logsumexp.triton_backward import backward_kernel
from sslkernels.primitives.pairwise_logsumexp.triton_kernels import (
    deep_forward_kernel,
    forward_kernel,
)

from .arguments import stage_arguments
from .outcomes import read_lines

TILES = 512  # per program
PLAIN = {"INVERSE": False, "LABELS": False}  # as in pairwise_logsumexp
SIDE = 2048  # rows and columns of a forward program's block


class Case(NamedTuple):
    """A loop, and the clocks per tile that the model predicts for an H100."""

    group: str
    name: str
    d: int
    tile: Tile
    predicted: int


CASES = (
    Case("whole", "forward", 128, Tile(64, 128, 128, 4, 2), 756),
    Case("whole", "backward", 128, Tile(64, 64, 128, 4, 3), 599),
    Case("whole", "backward", 256, Tile(64, 32, 256, 4, 3), 663),
    Case("pieces", "forward", 512, Tile(128, 128, 64, 4, 3), 7411),
)


def main() -> None:
    """Measure the cases without a result."""
    path = stage_arguments(__doc__).out
    done = {(row["group"], row["name"], row["d"]) for row in read_lines(path)}
    for case in CASES:
        if case[:3] not in done:
            row = case._asdict() | {"tile": case.tile._asdict()} | measure(case)
            print(row, flush=True)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def measure(case: Case) -> dict[str, Any]:
    """Clocks per tile of an SM, over all of its CTAs."""
    device = torch.device("cuda")
    step = backward if case.name == "backward" else forward
    compiled, _ = step(case, 1)
    ctas = resident(compiled, case.tile)
    slots = ctas * multiprocessors(device)
    step(case, slots)
    torch.cuda.synchronize()
    times, rates = [], []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        _, tiles = step(case, slots)
        end.record()
        rates.append(clock_rate())
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    milliseconds, megahertz = median(times), median(rates)
    clocks = milliseconds * 1e3 * megahertz * multiprocessors(device) / tiles
    return {
        "measured": round(clocks), "ms": milliseconds, "megahertz": megahertz, "ctas_per_sm": ctas,
    }  # fmt: skip


def forward(case: Case, slots: int) -> tuple[Any, int]:
    """Row and column sums of square blocks off the diagonal; also returns the number of tiles."""
    height = max(x for x in range(1, int(slots**0.5) + 1) if slots % x == 0)
    n, m = SIDE * height, SIDE * (slots // height)
    q, k = embeddings(n, case.d), embeddings(m, case.d)
    rows = q.new_empty(2, m // SIDE, n, dtype=torch.float32)
    columns = q.new_empty(2, n // SIDE, m, dtype=torch.float32)
    scale, largest = numbers(q)
    numbers_of_blocks = [n // SIDE, SIDE, SIDE]
    if case.d <= case.tile.BD:
        compiled = launch(
            forward_kernel, (slots,), case.tile, q, k,
            [scale, largest, scale, scale, *rows, *columns], [1, *numbers_of_blocks], (),
            TRIANGLE=False, ROWS=True, PARTS=False, INVERSE=False,
        )  # fmt: skip
    else:
        compiled = launch(
            deep_forward_kernel, (slots,), case.tile, q, k,
            [*[scale] * 4, *rows, *columns, scale, scale], numbers_of_blocks, (),
            TRIANGLE=False, COLUMNS=True, **PLAIN,
        )  # fmt: skip
    return compiled, n * m // (case.tile.BM * case.tile.BN)


def backward(case: Case, slots: int) -> tuple[Any, int]:
    """The gradient of rows; each program holds a block of them against all columns."""
    n, m = case.tile.BM * slots, case.tile.BN * TILES
    q, k = embeddings(n, case.d), embeddings(m, case.d)
    row, column = (q.new_full((2, size), 12.0, dtype=torch.float32) for size in (n, m))
    gradient = q.new_empty(1, n, case.d, dtype=torch.float32)
    scale, largest = numbers(q)
    nothing = [scale] * 4  # inverse lengths and labels
    compiled = launch(
        backward_kernel, (slots, 1), case.tile, q, k,
        [scale, largest, *nothing, *row, *column, row[1], column[1], scale, scale, gradient, scale],
        [1, m, 0], (), ROW=True, COLUMN=True, PARTS=False, BOTH=False, SCALE=False, **PLAIN,
    )  # fmt: skip
    return compiled, slots * TILES


def embeddings(size: int, d: int) -> Tensor:
    x = torch.randn(size, d, device="cuda")
    return torch.nn.functional.normalize(x, dim=1).to(torch.bfloat16)


def numbers(q: Tensor) -> Sequence[Tensor]:
    """The scale, and the rows' length: small logits, which select the loop without shifts."""
    return [q.new_full((), x, dtype=torch.float32) for x in (10.0, 1.0)]


def resident(compiled: Any, tile: Tile) -> int:
    """The number of CTAs that an SM of an H100 holds at a time."""
    registers, shared = getattr(compiled, "n_regs", 255), compiled_shared(compiled)
    threads = 32 * tile.num_warps
    by_registers = 65536 // (-(-registers // 8) * 8 * threads)
    return max(1, min(by_registers, 228 * 1024 // (shared + 1024), 2048 // threads))


def compiled_shared(compiled: Any) -> int:
    metadata = getattr(compiled, "metadata", None)
    return getattr(metadata, "shared", 0)


def clock_rate() -> float:
    """MHz, while the device is busy."""
    return float(torch.cuda.clock_rate())  # by nvidia-ml-py


if __name__ == "__main__":
    main()
