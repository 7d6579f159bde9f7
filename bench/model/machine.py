"""The cost of an instruction on an H100: its pipe, the time there, and the latency of its result.

Clocks are those of one of the four partitions of an SM. Pipe widths are published; latencies are
rounded values from public microbenchmarks of Hopper and Ampere, not our own; assumptions are marked
as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .sass import Instruction


@dataclass(frozen=True)
class Machine:
    """An H100 SXM under load. Bytes are per clock and SM. Assumed: clock rate, L2's bandwidth and
    latency, and ``wgmma_latency``."""

    multiprocessors: int = 132
    ghz: float = 1.65
    l2_bytes: float = 40.0
    l2_latency: int = 500
    dram_bytes: float = 13.8
    dram_latency: int = 650
    wgmma_latency: int = 30  # from the end of the last wgmma to the warp that waits for it


PIPES = {  # the first that matches the opcode; others use no pipe
    "fma": r"FFMA|FMUL|FADD|HFMA2|HADD2|HMUL2|HSET|HMNMX",
    "imad": r"IMAD|IDP",  # the heavier half of the fma pipe
    "xu": r"MUFU|F2I|I2F|F2F|FRND|POPC|FLO|BREV",  # with the packed F2FP: see FIXED_CONVERSIONS
    "mio": r"LDS|STS|SHFL|LD|ST|ATOM|RED|MATCH",
    "tensor": r"HGMMA",
    "hmma": r"HMMA|IMMA",
    "dp": r"DADD|DMUL|DFMA|DSETP",
    "uni": r"U[A-Z0-9]+|R2UR|S2UR|VOTEU",
    "alu": r"LOP|SHF|ISETP|IADD3|SEL|FSEL|FSET|FMNMX|MOV|P2R|R2P|PRMT|PLOP3|VIADD|VIMNMX|LEA|F2FP"
    r"|IABS|SGXT|BMSK|I2FP|VOTE|IMNMX|FCHK|VABSDIFF",
}
FIXED_CONVERSIONS = ("F2FP", "I2FP")  # perhaps of "alu": ptxas gives them no scoreboard
OCCUPIES = {"imad": 2, "alu": 2, "uni": 2, "dp": 2, "xu": 8, "hmma": 8}  # clocks of 32 lanes
LATENCIES = (  # clocks until a scoreboard is released; the first that matches
    (PIPES["xu"], 20),
    (r"LDSM", 33),
    (r"LDS", 29),
    (r"SHFL", 23),
    (r"LDGSTS", 40),
    (r"LDG", 280),
    (r"ATOM|RED", 300),
    (r"ST(S|G|SM|\.)", 15),
    (r"S2R|S2UR|CS2R|LDC|ULDC", 25),
    (r"HMMA|IMMA", 33),
    (r"D", 20),
    (r"", 12),
)


@dataclass(frozen=True)
class Step:
    """An instruction in the simulation."""

    instruction: Instruction
    pipe: str
    clocks: float  # in the pipe
    latency: int
    copied: int = 0  # bytes that a warp copies from L2 to shared memory
    moved: int = 0  # bytes of a full-width global access of a warp
    waits_for: str = ""  # "wgmma" or "copy"
    pending: int = 0  # how many of those may be pending
    commits: str = ""  # the same, when it closes a group


def step_of(x: Instruction, fast_conversions: bool = False) -> Step:
    opcode = x.opcode
    pipe = next((name for name, pattern in PIPES.items() if re.match(pattern, opcode)), "")
    if fast_conversions and opcode.startswith(FIXED_CONVERSIONS):
        pipe = "alu"
    clocks = float(OCCUPIES.get(pipe, 0))
    latency = next(clocks for pattern, clocks in LATENCIES if re.match(pattern, opcode))
    extra: dict = {}
    if pipe == "mio":
        clocks = 4.0 * _wavefronts(opcode)
    if pipe == "tensor":
        clocks = _wgmma_clocks(x)
        extra["commits"] = "wgmma" if "gsb0" in x.text else ""
    if opcode.startswith("LDGSTS"):
        # a narrow copy is of a column vector: all lanes copy the same 32 bytes
        extra["copied"] = 512 if "128" in opcode else 32
    elif re.match(r"(LDG|STG)\b.*\.128", opcode):
        extra["moved"] = 512
    if opcode.startswith("LDGDEPBAR"):
        extra["commits"] = "copy"
    elif opcode.startswith("WARPGROUP.DEPBAR"):
        extra |= {"waits_for": "wgmma", "pending": _count(x.text, "gsb0")}
    elif opcode.startswith("DEPBAR") and "SB0, 0x" in x.text:
        extra |= {"waits_for": "copy", "pending": _count(x.text, "SB0")}
    return Step(x, pipe, clocks, latency, **extra)


def _count(text: str, name: str) -> int:
    return int(re.search(rf"{name}, (0x[0-9a-f]+)", text)[1], 16)


def _wavefronts(opcode: str) -> float:
    """Wavefronts of 128 bytes through shared memory or L1, without bank conflicts."""
    if opcode.startswith(("LDSM", "STSM")):
        return 4.0 if ".4" in opcode else 2.0 if ".2" in opcode else 1.0
    if opcode.startswith(("LDS", "STS", "LDG", "STG")):
        return 4.0 if ".128" in opcode else 2.0 if ".64" in opcode else 1.0
    return 1.0


def wgmma_shape(opcode: str) -> tuple[int, int, int]:
    rows, columns, depth = re.match(r"\w+\.(\d+)x(\d+)x(\d+)", opcode).groups()
    return int(rows), int(columns), int(depth)


def _wgmma_clocks(x: Instruction) -> float:
    """N / 2 on the tensor cores, unless shared memory's 128 B/clk take longer."""
    _, columns, _ = wgmma_shape(x.opcode)
    a_from_shared = 2048 if re.match(r"HGMMA\S*\s+R\d+, gdesc", x.text) else 0
    return max(columns / 2, (a_from_shared + 32 * columns) / 128)


def flops_of_warp(steps: list[Step]) -> int:
    """FLOPs of a warp's tensor-core instructions; a warp does a quarter of a warpgroup's wgmma."""
    total = 0
    for step in steps:
        if step.pipe == "tensor":
            rows, columns, depth = wgmma_shape(step.instruction.opcode)
            total += 2 * rows * columns * depth // 4
        elif step.pipe == "hmma" and (m := re.search(r"\.(16)(8)(\d+)\b", step.instruction.opcode)):
            total += 2 * 16 * 8 * int(m[3])
    return total
