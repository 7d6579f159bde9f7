"""Clocks per tile of a kernel's loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .compile import Compiled
from .machine import Machine, step_of
from .partition import Partition
from .sass import Block, Instruction, blocks_of, inner_loops, natural_loops

SPIN = 8  # maximum instructions of a spin loop


class Clocks(NamedTuple):
    """Clocks of an SM per tile, with as many blocks as fit."""

    clocks: float
    products: float  # the tensor cores' part
    blocks: int


def of_loops(kernel: Compiled) -> list[Clocks]:
    """Clocks of the loops with products, in code order, without the masks of rare tiles."""
    loops = inner_loops(kernel.code, kernel.labels)
    return [_run(kernel, x.instructions) for x in loops if _multiplies(x.instructions)]


def of_pieces(kernel: Compiled, pieces: int, copied: int) -> Clocks:
    """Clocks of a loop over tiles around one over pieces of the depth: all of its code once, with
    masks of rare tiles, and the inner loop for each piece.

    ``copied``: bytes of a tile that TMA copies from L2, which the code does not show.
    """
    blocks = blocks_of(kernel.code, kernel.labels)
    inner = max(
        (x for x in inner_loops(kernel.code, kernel.labels) if _multiplies(x.instructions)),
        key=lambda x: len(x.instructions),
    )
    own = set(inner.path) | set(inner.optional)
    around = [
        body
        for body in natural_loops(blocks).values()
        if own < body and sum(len(blocks[j]) for j in body - own) > 100
    ]
    outer = sorted(j for j in min(around, key=len) - own if len(blocks[j]) > SPIN)
    before = _text(kernel, blocks, [j for j in outer if j < min(own)])
    after = _text(kernel, blocks, [j for j in outer if j > min(own)])
    found = _run(kernel, [*before, *list(inner.instructions) * pieces, *after])
    return found._replace(clocks=max(found.clocks, copied / Machine.l2_bytes))


def _text(kernel: Compiled, blocks: Sequence[Block], chosen: Sequence[int]) -> list[Instruction]:
    return [x for j in chosen for x in kernel.code[blocks[j].start : blocks[j].end]]


def _multiplies(code: Sequence[Instruction]) -> bool:
    return any("GMMA" in x.opcode for x in code)


def _run(kernel: Compiled, code: Sequence[Instruction]) -> Clocks:
    steps = [step_of(x) for x in code]
    result = Partition(steps, kernel.warps, kernel.blocks, Machine()).run(12)
    return Clocks(result.clocks, result.flops / 4096, kernel.blocks)
