"""Kernels compiled for an H100 without one, in the form in which they are launched."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sslkernels.primitives._tile_table import Tile

from .sass import Instruction, disassemble, triton_tool

KIB = 1024
INTEGERS = {"labels_ptr": "*i64", "row_labels_ptr": "*i64", "column_labels_ptr": "*i64",
            "index_ptr": "*i64"}  # fmt: skip
FLOATS = ("unit", "high", "low", "quarters", "most", "spacing", "samples")
MATRICES = ("coefficients_ptr", "q_ptr", "k_ptr", "pair_weights_ptr")


class Compiled(NamedTuple):
    code: list[Instruction]
    labels: dict[str, int]
    registers: int  # per thread
    shared: int  # bytes per block
    warps: int

    @property
    def blocks(self) -> int:
        """Blocks per SM: registers are allocated to warps in units of 256, and the system uses
        1 KiB of every block's shared memory."""
        of_warp = -(-self.registers * 32 // 256) * 256
        by_registers = min(65536 // (of_warp * self.warps), 64 // self.warps)
        return min(by_registers, 228 * KIB // (self.shared + KIB))


def compile_kernel(kernel: Any, tile: Tile, **constants: Any) -> Compiled:
    """In bfloat16; all arguments but matrices and strides may have any alignment."""
    shape = tile._asdict()
    warps, stages = shape.pop("num_warps"), shape.pop("num_stages")
    constants = {**shape, "PRECISION": "ieee", **constants}
    constants = {x.name: constants[x.name] for x in kernel.params if x.name in constants}

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name.endswith("_ptr"):
            return INTEGERS.get(
                name, "*bf16" if name in MATRICES and name != "coefficients_ptr" else "*fp32"
            )
        if name in FLOATS:
            return "fp32"
        return "i64" if annotations[name] is tl.int64 else "i32"

    names = [x.name for x in kernel.params]
    annotations = {x.name: x._param.annotation for x in kernel.params}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if name not in constants and (name in MATRICES or name.endswith("_stride"))
    }
    source = ASTSource(kernel, {name: kind(name) for name in names}, constants, aligned)
    found = triton.compile(
        source,
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True},
    )
    with TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(found.asm["cubin"])
        code, labels = disassemble(path)
        usage = subprocess.run(
            [triton_tool("cuobjdump"), "--dump-resource-usage", path],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    registers = int(re.search(r"REG:(\d+)", usage)[1])  # type: ignore[index]
    return Compiled(code, labels, registers, found.metadata.shared, warps)
