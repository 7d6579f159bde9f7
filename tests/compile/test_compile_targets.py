"""Every Triton kernel × tile-table entry, compiled for every architecture without a GPU.

triton.compile checks no limits, so the cubin is held to them here: no spills, registers and shared
memory that a block can have, and tensor-core instructions.
"""

import os
import re
import subprocess
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import pytest

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

KIB = 1024
SHARED = {"sm_80": 163 * KIB, "sm_86": 99 * KIB, "sm_90": 227 * KIB, "sm_100": 227 * KIB}
TENSOR_CORE = {
    "sm_80": "mma.sync",
    "sm_86": "mma.sync",
    "sm_90": "wgmma.mma_async",
    "sm_100": "tcgen05.mma",
}
DTYPES = {2: "bf16", 4: "fp32"}
INPUTS = [
    f"{x}_ptr" for x in ("q", "k", "x", "a", "b", "own", "other", "values", "student", "teacher")
]
STRIDES = ("_stride", "_view", "_row", "_step")
VARIANTS = {  # the heaviest of each kernel's specialisations, and the lightest path through it
    "pairwise_logsumexp.forward_kernel": [
        {"EXCLUDED": 4, "TRIANGLE": True, "COLUMNS": True},
        {"EXCLUDED": 1, "TRIANGLE": False, "COLUMNS": True},
        {"EXCLUDED": 0, "TRIANGLE": False, "COLUMNS": False},
    ],
    "pairwise_logsumexp.backward_kernel": [
        {"EXCLUDED": 4, "ROW": True, "COLUMN": True},
        {"EXCLUDED": 0, "ROW": True, "COLUMN": False},
        {"EXCLUDED": 0, "ROW": False, "COLUMN": True},
    ],
    "nearest_neighbor.nearest_kernel": [{"EXCLUDED": 4}, {"EXCLUDED": 0}],
    "pairwise_softplus.forward_kernel": [{"EXCLUDED": 4}, {"EXCLUDED": 0}],
    "pairwise_softplus.backward_kernel": [
        {"EXCLUDED": 4, "ROW": True, "GRADIENT": True},
        {"EXCLUDED": 4, "ROW": False, "GRADIENT": True},
        {"EXCLUDED": 0, "ROW": True, "GRADIENT": False},
    ],
    "offdiagonal_norm.square_sum_kernel": [{"TRIANGLE": True}, {"TRIANGLE": False}],
}
TILE_OF_COLUMNS = {"ROWS": 8, "COLUMNS": 128}
RAW, STANDARDIZED = ({"RAW": raw, **TILE_OF_COLUMNS} for raw in (True, False))
ROW_KERNELS = {
    "pairwise_logsumexp.combine_kernel": [{"TRIANGLE": True, "BLOCK": 128}],
    "pairwise_logsumexp.reduce_kernel": [{"BLOCK": 4, "LENGTH": 1024}, {"BLOCK": 64, "LENGTH": 64}],
    "pairwise_logsumexp.weigh_kernel": [{"COLUMN": True, "BM": 16, "BN": 256}],
    "pairwise_softplus.reduce_kernel": [{"BLOCK": 4, "LENGTH": 1024}],
    "pairwise_softplus.weigh_kernel": [{"BLOCK": 4, "LENGTH": 512}],
    "offdiagonal_norm.deviations_kernel": [{**TILE_OF_COLUMNS, "column_stride": 1}],
    "offdiagonal_norm.dot_kernel": [
        STANDARDIZED,
        {**RAW, "a_column_stride": 1, "b_column_stride": 1},
    ],
    "offdiagonal_norm.standardize_kernel": [
        {**TILE_OF_COLUMNS, "column_stride": 1},
        {**TILE_OF_COLUMNS, "row_stride": 1},
    ],
    "offdiagonal_norm.restore_kernel": [{**STANDARDIZED, "column_stride": 1}],
    "offdiagonal_norm.gradient_kernel": [
        STANDARDIZED,
        {**STANDARDIZED, "own_column_stride": 1, "other_column_stride": 1},
        {**RAW, "own_column_stride": 1, "other_column_stride": 1},
    ],
    "offdiagonal_norm.input_gradient_kernel": [{**TILE_OF_COLUMNS, "column_stride": 1}],
    "sinkhorn.rows_kernel": [{"COUNTED": True, "BLOCK": 4096}],
    "sinkhorn.columns_kernel": [{"COUNTED": True, "BM": 16, "BN": 256}],
    "sinkhorn.masses_kernel": [
        {"COUNTED": counted, "BM": 16, "BN": 256} for counted in (True, False)
    ],
    "soft_cross_entropy.combine_kernel": [{"BLOCKS": 32}, {"BLOCKS": 4096}],
}
WIDE_TILE = {"SIDE": 128, "ROWS": 16}
TILE_OF_VIEW = {1: WIDE_TILE, 3: {"SIDE": 64, "ROWS": 16}}
BYTES = {"data_ptr": "u8", "levels_ptr": "u8", "offsets_ptr": "i64", "sizes_ptr": "i64"}
VIEW_KERNELS = {  # whose sums are not contracted, as they are launched
    "augment_views.resize_kernel": [
        {"C": channels, "REACH": reach, **TILE_OF_VIEW[channels]}
        for channels, reach in ((3, 2), (3, 1), (1, 2))
    ],
    "augment_views.color_kernel": [
        {"C": channels, "TILES": 64, "BLOCK": 1024, **layout}
        for channels, layout in ((3, {"pixel_stride": 1}), (3, {"channel_stride": 1}), (1, {}))
    ],
    "augment_views.blur_kernel": [
        {"C": channels, "RADIUS": 11, **WIDE_TILE, **layout}
        for channels, layout in ((3, {"pixel_stride": 1}), (3, {"channel_stride": 1}), (1, {}))
    ],
}

LOGITS = {"CENTER": True, "PROBABILITIES": False}
TEACHERS = [
    {**LOGITS, "VIEWS": 1, "BLOCK": 4096, "T": 1},
    {**LOGITS, "VIEWS": 2, "BLOCK": 2048},
    {**LOGITS, "VIEWS": 64, "BLOCK": 64},
    {"CENTER": False, "PROBABILITIES": True, "VIEWS": 2, "BLOCK": 2048},
]
WIDE_ROW_KERNELS = {
    "soft_cross_entropy.forward_kernel": TEACHERS,
    "soft_cross_entropy.backward_kernel": TEACHERS,
}


def tables():
    from sslkernels.primitives._tile_table import BACKWARD, FORWARD
    from sslkernels.primitives.nearest_neighbor.tiles import TILES
    from sslkernels.primitives.offdiagonal_norm.tiles import TILES as PRODUCTS

    return {
        "pairwise_logsumexp.forward_kernel": FORWARD,
        "pairwise_logsumexp.backward_kernel": BACKWARD,
        "nearest_neighbor.nearest_kernel": TILES,
        "pairwise_softplus.forward_kernel": FORWARD,
        "pairwise_softplus.backward_kernel": BACKWARD,
        "offdiagonal_norm.square_sum_kernel": {
            arch: {size: {None: tile} for size, tile in tiles.items()}
            for arch, tiles in PRODUCTS.items()
        },
    }


def jobs():
    for name, table in tables().items():
        for arch, by_size in table.items():
            for size, tiles in by_size.items():
                for depth, tile in tiles.items():
                    for variant in VARIANTS[name]:
                        *shape, warps, stages = tile
                        constants = dict(
                            zip(("BM", "BN", "BD"), shape, strict=True),
                            PRECISION="tf32" if size == 4 else "ieee",
                            **({"D": depth} if depth else {}),
                            **variant,
                        )
                        yield name, arch, DTYPES[size], constants, warps, stages
    for name, variants in ROW_KERNELS.items():
        for arch in SHARED:
            for variant in variants:
                yield name, arch, "bf16", variant, 4, 3
    for name, variants in VIEW_KERNELS.items():
        # resizing takes bytes to bytes, whatever the dtype
        dtypes = ["bf16"] if name.endswith("resize_kernel") else DTYPES.values()
        for arch, dtype, variant in product(SHARED, dtypes, variants):
            yield name, arch, dtype, variant, 8, 3
    for name, variants in WIDE_ROW_KERNELS.items():
        for arch, dtype, variant in product(SHARED, DTYPES.values(), variants):
            yield name, arch, dtype, variant, 8, 3


def kernel_of(name):
    primitive, name = name.split(".")
    return getattr(import_module(f"sslkernels.primitives.{primitive}.triton_kernels"), name)


def compile_one(job):
    """Registers, stack, shared memory and PTX of one specialisation."""
    name, arch, dtype, constants, warps, stages = job
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


def faults(job):
    """What of the budget this job breaks, as text; empty if nothing."""
    name, arch, dtype, constants, warps, _ = job
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


def test_views_are_compiled_as_they_are_launched():
    from sslkernels.primitives.augment_views import triton as launcher

    assert (launcher.RESIZE_TILE, launcher.BLUR_TILE) == (TILE_OF_VIEW, WIDE_TILE)
    assert launcher.OPTIONS["num_warps"] == 8


def test_sizes_of_one_compile():
    """Triton makes a constant of an argument that is 1, which must not break a kernel's types."""
    tile = {"BM": 64, "BN": 64, "BD": 16, "PRECISION": "ieee", "EXCLUDED": 1}
    ones = dict.fromkeys(("D", "n", "m", "q_stride", "k_stride", "e0"), 1)
    rows = {"BLOCK": 4, "LENGTH": 1024}
    for name, constants in (
        (
            "logsumexp.forward_kernel",
            dict(TRIANGLE=True, COLUMNS=True, row_blocks=1, **tile, **ones),
        ),
        (
            "logsumexp.forward_kernel",
            dict(TRIANGLE=False, COLUMNS=True, row_blocks=1, **tile, **ones),
        ),
        ("logsumexp.backward_kernel", dict(ROW=True, COLUMN=True, **tile, **ones)),
        ("logsumexp.combine_kernel", {"TRIANGLE": True, "BLOCK": 128, "size": 1, "slots": 1}),
        ("logsumexp.reduce_kernel", dict(size=1, length=1, length_stride=1, **rows)),
        ("logsumexp.weigh_kernel", {"COLUMN": True, "BM": 16, "BN": 256, "n": 1, "m": 1}),
        ("softplus.forward_kernel", dict(**tile, **ones)),
        ("softplus.backward_kernel", dict(ROW=True, GRADIENT=True, **tile, **ones)),
        ("softplus.backward_kernel", dict(ROW=False, GRADIENT=True, **tile, **ones)),
        ("softplus.reduce_kernel", dict(n=1, m=1, **rows)),
        ("softplus.weigh_kernel", dict(n=1, m=1, **rows)),
    ):
        compile_one((f"pairwise_{name}", "sm_90", "bf16", constants, 4, 2))
    compile_one(("nearest_neighbor.nearest_kernel", "sm_90", "bf16", {**tile, **ones}, 4, 2))
    sizes = ("n", "d", "k", "rows_per_split", "columns_per_split", "blocks")
    sizes += ("S", "T", "K", "centers")
    sizes += ("images", "size", "pixels", "tiles")
    everything = {**VARIANTS, **ROW_KERNELS, **VIEW_KERNELS, **WIDE_ROW_KERNELS}
    for name, variants in everything.items():
        if name.startswith(("pairwise_", "nearest_neighbor.")):
            continue
        for variant in variants:
            names = kernel_of(name).arg_names
            one = dict.fromkeys((x for x in names if x in sizes or x.endswith(STRIDES)), 1)
            shape = {key: value for key, value in tile.items() if key in names}
            compile_one((name, "sm_90", "bf16", {**shape, **variant, **one}, 4, 2))


def test_every_entry_fits_its_architecture():
    everything = list(jobs())
    assert len(everything) > 450
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        broken = [text for text in pool.map(faults, everything) if text]
    assert not broken, "\n".join(broken)
