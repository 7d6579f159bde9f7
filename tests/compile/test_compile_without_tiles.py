"""The Triton kernels that have no table of tiles, and all kernels with sizes of one."""

import os

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

from compile_jobs import (  # noqa: E402
    FIRST,
    ROW_KERNELS,
    TILE_OF_VIEW,
    VARIANTS,
    VIEW_KERNELS,
    WIDE_ROW_KERNELS,
    WIDE_TILE,
    Job,
    jobs,
)
from compile_kernel import STRIDES, all_faults, compile_one, kernel_of  # noqa: E402


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
        compile_one(Job(f"pairwise_{name}", FIRST, "bf16", constants, 4, 2))
    compile_one(Job("nearest_neighbor.nearest_kernel", FIRST, "bf16", {**tile, **ones}, 4, 2))
    sizes = ("n", "d", "k", "rows_per_split", "columns_per_split", "blocks")
    sizes += ("S", "T", "K", "centers")
    sizes += ("images", "size", "pixels", "tiles")
    everything = {**VARIANTS, **ROW_KERNELS, **VIEW_KERNELS, **WIDE_ROW_KERNELS}
    compiled = []
    for name, variants in everything.items():
        if name.startswith(("pairwise_", "nearest_neighbor.")):
            continue
        for variant in variants:
            names = kernel_of(name).arg_names
            one = dict.fromkeys((x for x in names if x in sizes or x.endswith(STRIDES)), 1)
            shape = {key: value for key, value in tile.items() if key in names}
            job = Job(name, FIRST, "bf16", {**shape, **variant, **one}, 4, 2)
            if job not in compiled:  # variants that differ in nothing but a stride
                compile_one(job)
                compiled.append(job)


def test_they_fit_their_architecture():
    everything = os.environ.get("SSLKERNELS_COMPILE") == "all"
    broken = all_faults(job for job in jobs(everything) if job.name not in VARIANTS)
    assert not broken, "\n".join(broken)
