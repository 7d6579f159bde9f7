"""Compiles one Triton kernel without a GPU, and checks it against its architecture's limits.

triton.compile does not check limits, so the cubin is checked here: no register spills, registers
and shared memory within a block's limits, tensor-core instructions, and warnings of ptxas.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, NamedTuple

import triton
from compile_jobs import VARIANTS, VIEW_KERNELS, Job

from bench.model.sass import disassemble, inner_loops

KIB = 1024
SHARED = {"sm_80": 163 * KIB, "sm_86": 99 * KIB, "sm_90": 227 * KIB, "sm_100": 227 * KIB}
# Bytes per thread: ptxas spills scalars such as pointers and strides there, which the main loop
# must not access; a part of a tile would take more.
MOST_STACK = 96
TENSOR_CORE = {
    "sm_80": "mma.sync",
    "sm_86": "mma.sync",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
}
INPUTS = [
    f"{x}_ptr"
    for x in (
        "q", "k", "x", "a", "b", "own", "other", "values", "student", "teacher", "query", "key",
        "positive", "pair_weights",
    )
]  # fmt: skip
FLOATS = (
    "scale", "bias", "unit", "part", "weight", "epsilon", "factor", "correction", "eps",
    "outer_eps", "off_diagonal", "diagonal", "variance", "variance_eps", "distance",
    "high", "low", "quarters", "most", "spacing", "samples",
)  # fmt: skip
TEMPERATURES = ("student_temperature_ptr", "teacher_temperature_ptr", "epsilon_ptr")
BACKWARD_KERNELS = ("backward_kernel", "weights_kernel", "sides_kernel", "weigh_kernel")
LABELS = ("labels_ptr", "row_labels_ptr", "column_labels_ptr")
DOUBLES = {
    "covariance_loss.columns_kernel": ("loss_ptr",),
    "covariance_loss.finish_kernel": ("column_loss_ptr",),
}
BYTES = {"data_ptr": "u8", "levels_ptr": "u8", "offsets_ptr": "i64", "sizes_ptr": "i64"}


class Compiled(NamedTuple):
    """The resources of a compiled kernel."""

    registers: int  # per thread
    stack: int  # bytes per thread
    shared: int  # bytes
    ptx: str
    warnings: str  # of ptxas
    spills: bool  # in the leanest loop with products, the main one

    def resident(self, warps: int) -> int:
        """The number of CTAs that an SM of sm_90 holds at a time."""
        by_registers = 65536 // (-(-self.registers // 8) * 8 * 32 * warps)
        return min(by_registers, 228 * KIB // (self.shared + KIB), 64 // warps)


def kernel_of(name: str) -> Any:
    primitive, name = name.split(".")
    rest = "" if primitive == "_triton" else ".triton_kernels"
    if primitive == "contrastive" and name in ("prepare_kernel", "finish_kernel"):
        rest = ".triton_rows"
    if primitive == "pairwise_logsumexp" and name in BACKWARD_KERNELS:
        rest = ".triton_backward"
    return getattr(import_module(f"sslkernels.primitives.{primitive}{rest}"), name)


def compile_one(job: Job) -> Compiled:
    """Compile one specialisation."""
    name, arch, dtype, constants, warps, stages, *_ = job
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = kernel_of(name)
    of_views = name in VIEW_KERNELS
    inputs = ["out_ptr"] if of_views else INPUTS

    def kind(parameter):
        argument = parameter.name
        if argument in constants:
            return "constexpr"
        if parameter.annotation_type:
            return parameter.annotation_type
        if argument.endswith(("_high", "_low", "_scale", "_shift")) or argument in FLOATS:
            return "fp32"
        if not argument.endswith("_ptr"):
            return "i32"
        kinds = {
            "index_ptr": "i64",
            "step_ptr": "i64",
            "sums_ptr": "fp64",
            **dict.fromkeys(TEMPERATURES, "fp64"),
            **dict.fromkeys(LABELS, "i64"),
            **dict.fromkeys(DOUBLES.get(name, ()), "fp64"),
            **({"count_ptr": "i64"} if name.startswith("sinkhorn") else {}),
            **dict.fromkeys(inputs, dtype),
            **(BYTES | {"gray_ptr": "i32"} if of_views else {}),
        }
        return "*" + kinds.get(argument, "fp32")

    signature = {parameter.name: kind(parameter) for parameter in kernel.params}
    aligned = {
        (x.num,): [["tt.divisibility", 16]]
        for x in kernel.params
        if x.name not in constants
        and is_specialized(x)
        and (x.name.endswith("_ptr") or not of_views)
    }
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    log = StringIO()
    with (
        TemporaryDirectory() as cache,
        NamedTemporaryFile(suffix=".cubin") as file,
        redirect_stdout(log),
    ):
        os.environ["TRITON_CACHE_DIR"] = cache
        os.environ["TRITON_DUMP_PTXAS_LOG"] = os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
        compiled = triton.compile(
            source,
            target=GPUTarget("cuda", int(arch.removeprefix("sm_")), 32),
            options={"num_warps": warps, "num_stages": stages, "enable_fp_fusion": not of_views},
        )
        file.write(compiled.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
        stack = int(re.search(r"STACK:(\d+)", usage)[1])
        spills = stack > 0 and main_loop_spills(Path(file.name))
    registers = int(re.search(r"REG:(\d+)", usage)[1])
    ptx = compiled.asm["ptx"]
    shared = compiled.metadata.shared
    return Compiled(registers, stack, shared, ptx, log.getvalue(), spills)


def main_loop_spills(cubin: Path) -> bool:
    loops = [[x.opcode for x in loop.instructions] for loop in inner_loops(*disassemble(cubin))]
    products = [loop for loop in loops if any(re.match("HGMMA|HMMA|UTC", x) for x in loop)]
    return bool(products) and any(re.match("LDL|STL", x) for x in min(products, key=len))


def is_specialized(parameter: Any) -> bool:
    """Whether Triton specialises on the alignment of the argument."""
    if parameter.name.endswith("_ptr"):
        return not parameter.do_not_specialize_on_alignment
    return not (parameter.is_constexpr or parameter.do_not_specialize)


def judged(job: Job) -> tuple[str, str]:
    """The kernel's resources as text, and the limits that it exceeds; empty if none."""
    name, arch, dtype, constants, warps, *_ = job
    compiled = compile_one(job)
    registers, stack, shared, ptx, warnings, spills = compiled
    found = []
    if stack > MOST_STACK:
        found.append(f"{stack} bytes of stack")
    if spills:
        found.append("a main loop that spills")
    if registers * warps * 32 > 65536:
        found.append(f"{registers} registers x {warps * 32} threads")
    if shared > SHARED[arch]:
        found.append(f"{shared} bytes of shared memory")
    if name in VARIANTS:
        # products of fewer than 64 rows have no wgmma and no tcgen05
        wanted = TENSOR_CORE[arch] if constants["BM"] >= 64 else "mma.sync"
        if wanted not in ptx:
            found.append(f"no {wanted}")
    if "Potential Performance Loss" in warnings:  # serialised wgmma
        found.append(" ".join(warnings.split()))
    label = f"{name} {arch} {dtype} {constants}"
    size = f"{registers} registers, {shared / KIB:.1f} KiB"
    if arch == "sm_90":
        size += f", {compiled.resident(warps)} CTAs per SM"
    return f"{label}: {size}", f"{label}: {', '.join(found)}" if found else ""


def all_faults(jobs: Iterable[Job]) -> list[str]:
    """Faults of all jobs; prints the resources of each."""
    # not forked, because threads of this process may hold locks of the compiler
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        sizes, faults = zip(*pool.map(judged, jobs), strict=True)
    print("\n".join(sizes))
    return [text for text in faults if text]
