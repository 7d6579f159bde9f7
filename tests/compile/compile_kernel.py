"""One Triton kernel, compiled without a GPU and held to the limits of its architecture.

triton.compile checks no limits, so the cubin is held to them here: no spills, registers and shared
memory that a block can have, and tensor-core instructions.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import triton
from compile_jobs import VARIANTS, VIEW_KERNELS, Job

KIB = 1024
SHARED = {"sm_80": 163 * KIB, "sm_86": 99 * KIB, "sm_90": 227 * KIB, "sm_100": 227 * KIB}
TENSOR_CORE = {
    "sm_80": "mma.sync",
    "sm_86": "mma.sync",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
}
INPUTS = [
    f"{x}_ptr" for x in ("q", "k", "x", "a", "b", "own", "other", "values", "student", "teacher")
]
STRIDES = ("_stride", "_view", "_row", "_step")
BYTES = {"data_ptr": "u8", "levels_ptr": "u8", "offsets_ptr": "i64", "sizes_ptr": "i64"}


def kernel_of(name: str):
    primitive, name = name.split(".")
    return getattr(import_module(f"sslkernels.primitives.{primitive}.triton_kernels"), name)


def compile_one(job: Job) -> tuple[int, int, int, str]:
    """Registers, stack, shared memory and PTX of one specialisation."""
    name, arch, dtype, constants, warps, stages, *_ = job
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = kernel_of(name)
    of_views = name in VIEW_KERNELS
    inputs = ["out_ptr"] if of_views else INPUTS

    def kind(argument):
        if argument in constants:
            return "constexpr"
        if argument.endswith(("_high", "_low", "_scale", "_shift")):
            return "fp32"
        if not argument.endswith("_ptr"):
            return "i32"
        kinds = {
            "index_ptr": "i64",
            "count_ptr": "i64",
            "sums_ptr": "fp64",
            **dict.fromkeys(inputs, dtype),
            **(BYTES | {"gray_ptr": "i32"} if of_views else {}),
        }
        return "*" + kinds.get(argument, "fp32")

    signature = {argument: kind(argument) for argument in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(kernel.arg_names)
        if argument not in constants
        and (
            argument.endswith("_ptr" if of_views else ("_ptr", *STRIDES))
            or argument == "K"
            or (argument == "d" and name in VARIANTS)
        )
    }
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    with TemporaryDirectory() as cache, NamedTemporaryFile(suffix=".cubin") as file:
        os.environ["TRITON_CACHE_DIR"] = cache
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
    registers = int(re.search(r"REG:(\d+)", usage)[1])
    stack = int(re.search(r"STACK:(\d+)", usage)[1])
    return registers, stack, compiled.metadata.shared, compiled.asm["ptx"]


def faults(job: Job) -> str:
    """What of the budget this job breaks, as text; empty if nothing."""
    name, arch, dtype, constants, warps, *_ = job
    registers, stack, shared, ptx = compile_one(job)
    found = []
    if stack:
        found.append(f"{stack} bytes of stack")
    if registers * warps * 32 > 65536:
        found.append(f"{registers} registers x {warps * 32} threads")
    if shared > SHARED[arch]:
        found.append(f"{shared} bytes of shared memory")
    if name in VARIANTS:
        # products of fewer than 64 rows have no wgmma and no tcgen05
        wanted = TENSOR_CORE[arch] if constants["BM"] >= 64 else "mma.sync"
        if wanted not in ptx:
            found.append(f"no {wanted}")
    return f"{name} {arch} {dtype} {constants}: {', '.join(found)}" if found else ""


def all_faults(jobs: Iterable[Job]) -> list[str]:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [text for text in pool.map(faults, jobs) if text]
