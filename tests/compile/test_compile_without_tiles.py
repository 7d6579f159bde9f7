"""The Triton kernels without a table of tiles, and all kernels with strides of one."""

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
    UNIT_OF_3000,
    VARIANTS,
    VIEW_KERNELS,
    WIDE_ROW_KERNELS,
    WIDE_TILE,
    Job,
    jobs,
)
from compile_kernel import all_faults, compile_one, is_specialized, kernel_of  # noqa: E402

OF_OPERANDS = ("q_stride", "k_stride", "weights_stride")  # multiples of 16, see ``operand``


def test_views_are_compiled_as_they_are_launched():
    from sslkernels.primitives.augment_views import triton as launcher

    assert (launcher.RESIZE_TILE, launcher.BLUR_TILE) == (TILE_OF_VIEW, WIDE_TILE)
    assert launcher.OPTIONS["num_warps"] == 8


def test_strides_of_one_compile():
    """Triton makes an argument of 1 a constant, which must not break a kernel's types."""
    tile = {"BM": 64, "BN": 64, "BD": 16, "D": 16, "PRECISION": "ieee", "EXCLUDED": 1}
    everything = {**VARIANTS, **ROW_KERNELS, **VIEW_KERNELS, **WIDE_ROW_KERNELS}
    compiled = []
    for name, variants in everything.items():
        parameters = kernel_of(name).params
        numbers = [x for x in parameters if not x.name.endswith("_ptr")]
        ones = {x.name: 1 for x in numbers if is_specialized(x) and x.name not in OF_OPERANDS}
        shape = {key: tile[key] for key in tile if key in {x.name for x in parameters}}
        for variant in variants:
            job = Job(name, FIRST, "bf16", {**shape, **variant, **ones}, 4, 2)
            if ones and job not in compiled:  # variants that differ only in a stride
                compile_one(job)
                compiled.append(job)
    assert len(compiled) > 15


def test_they_fit_their_architecture():
    everything = os.environ.get("SSLKERNELS_COMPILE") == "all"
    broken = all_faults(job for job in jobs(everything) if job.name not in VARIANTS)
    assert not broken, "\n".join(broken)


def test_rows_of_3000_prototypes_are_read_16_bytes_at_a_time():
    """3000 is a multiple of 8, but not of 16."""
    for name, variants in {**ROW_KERNELS, **WIDE_ROW_KERNELS}.items():
        for variant in variants:
            if variant.get("UNIT") == UNIT_OF_3000 and variant.get("VIEWS", 1) <= 2:
                ptx = compile_one(Job(name, FIRST, "bf16", variant, 8, 3)).ptx
                assert ".global.v4.b32" in ptx or ".global.v2.b32" in ptx, name
                assert ".global.b16" not in ptx, name
