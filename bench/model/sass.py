"""Machine code of a kernel: instructions with their control bits, blocks, inner loops."""

from __future__ import annotations

import heapq
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

BRANCH_TARGET = re.compile(r"`\((\.L_\S+?)\)")


@dataclass(frozen=True)
class Instruction:
    """``wait``: mask of the six scoreboards; ``write``, ``read``: the one it releases, 7 for none;
    ``stall``: clocks until the next instruction of the warp may issue."""

    text: str
    opcode: str
    stall: int
    write: int
    read: int
    wait: int


@dataclass(frozen=True)
class Block:
    """Instructions [start, end) without a branch in between; ``next``: its successors."""

    start: int
    end: int
    next: tuple[int, ...]

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Loop:
    """``path``: the blocks of the shortest cycle; ``optional``: those not on it, such as the masks
    of rare tiles, or waits."""

    path: tuple[int, ...]
    optional: tuple[int, ...]
    instructions: tuple[Instruction, ...]


def triton_tool(name: str) -> Path:
    """A tool that ships with Triton: ptxas, nvdisasm, cuobjdump."""
    spec = find_spec("triton")
    if spec is None:
        raise SystemExit("Triton is not installed in this environment; its wheel has the tools.")
    tool = Path(spec.submodule_search_locations[0]) / "backends" / "nvidia" / "bin" / name
    if not tool.exists():
        raise SystemExit(f"This Triton has no {name} at {tool}.")
    return tool


def disassemble(cubin: Path) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions, and the index of each label."""
    done = subprocess.run(
        [triton_tool("nvdisasm"), "-hex", "-c", cubin], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"nvdisasm cannot read {cubin}: {done.stderr.strip()}")
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    text = None
    for line in done.stdout.splitlines():
        if label := re.match(r"\s*(\.L_\S+):", line):
            labels[label[1]] = len(code)
        elif first := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);\s+/\* 0x[0-9a-f]+ \*/", line):
            text = first[1].strip()
        elif text and (second := re.match(r"\s*/\* 0x([0-9a-f]+) \*/", line)):
            control = int(second[1], 16) >> 41  # from bit 105 of the 128
            code.append(
                Instruction(
                    text=text,
                    opcode=_opcode(text),
                    stall=control & 15,
                    write=control >> 5 & 7,
                    read=control >> 8 & 7,
                    wait=control >> 11 & 63,
                )
            )
            text = None
    return code, labels


def _opcode(text: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]


def blocks_of(code: list[Instruction], labels: dict[str, int]) -> list[Block]:
    target = {}
    leaders = {0}
    for i, x in enumerate(code):
        if x.opcode.startswith("BRA") and (label := BRANCH_TARGET.search(x.text)):
            target[i] = labels[label[1]]
            leaders |= {target[i], i + 1}
        elif x.opcode in ("EXIT", "RET"):
            leaders.add(i + 1)
    starts = sorted(i for i in leaders if i < len(code))
    number = {start: j for j, start in enumerate(starts)}
    blocks = []
    for j, start in enumerate(starts):
        end = starts[j + 1] if j + 1 < len(starts) else len(code)
        last = code[end - 1]
        following = [number[target[end - 1]]] if end - 1 in target else []
        if not _always_leaves(last) and end < len(code):
            following.append(j + 1)
        blocks.append(Block(start, end, tuple(following)))
    return blocks


def _always_leaves(x: Instruction) -> bool:
    if x.text.startswith("@"):
        return False
    if x.opcode.startswith("BRA"):  # "BRA P1, target" and "BRA.U UP0, target" are conditional
        return not re.match(r"!?U?P\w+\s*,", x.text[len(x.opcode) :].strip())
    return x.opcode in ("EXIT", "RET")


def inner_loops(code: list[Instruction], labels: dict[str, int], least: int = 30) -> list[Loop]:
    """Loops that contain only spin loops; with at least ``least`` instructions."""
    blocks = blocks_of(code, labels)
    bodies = {
        head: body
        for head, body in natural_loops(blocks).items()
        if sum(len(blocks[j]) for j in body) >= least
    }
    loops = []
    for head, body in sorted(bodies.items()):
        if any(other < body for other in bodies.values()):
            continue
        if path := _shortest_way_round(blocks, head, body):
            instructions = tuple(x for j in path for x in code[blocks[j].start : blocks[j].end])
            loops.append(Loop(path, tuple(sorted(body - set(path))), instructions))
    return loops


def natural_loops(blocks: list[Block]) -> dict[int, set[int]]:
    """Loop bodies by head; a branch to an earlier block closes a loop."""
    before = defaultdict(list)
    for j, block in enumerate(blocks):
        for k in block.next:
            before[k].append(j)
    loops: dict[int, set[int]] = {}
    for tail, block in enumerate(blocks):
        for head in (k for k in block.next if k <= tail):
            body, todo = {head, tail}, [tail] if tail != head else []
            while todo:
                for j in before[todo.pop()]:
                    if j not in body:
                        body.add(j)
                        todo.append(j)
            loops.setdefault(head, set()).update(body)
    return loops


def _shortest_way_round(blocks: list[Block], head: int, body: set[int]) -> tuple[int, ...]:
    seen, todo = set(), [(len(blocks[head]), head, (head,))]
    while todo:
        length, j, path = heapq.heappop(todo)
        if head in blocks[j].next:
            return path
        if j in seen:
            continue
        seen.add(j)
        for k in set(blocks[j].next) & body - seen:
            heapq.heappush(todo, (length + len(blocks[k]), k, (*path, k)))
    return ()
