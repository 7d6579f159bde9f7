"""Every Triton kernel × tile-table entry, compiled without a GPU.

``SSLKERNELS_COMPILE=all`` compiles each for every architecture, and not only those that show most.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

from compile_jobs import (  # noqa: E402
    ARCHITECTURES,
    FIRST,
    HEAVIEST_OF_TABLES,
    ROW_KERNELS,
    TILE_OF_VIEW,
    VARIANTS,
    VIEW_KERNELS,
    WIDE_ROW_KERNELS,
    WIDE_TILE,
    Job,
    jobs,
)
from compile_kernel import compile_one, is_specialized, judged, kernel_of  # noqa: E402


def test_views_are_compiled_as_they_are_launched():
    from sslkernels.primitives.augment_views import triton as launcher

    assert (launcher.RESIZE_TILE, launcher.BLUR_TILE) == (TILE_OF_VIEW, WIDE_TILE)
    assert launcher.OPTIONS["num_warps"] == 8


def test_strides_of_one_compile():
    """Triton makes a constant of an argument that is 1, which must not break a kernel's types."""
    tile = {"BM": 64, "BN": 64, "BD": 16, "D": 16, "PRECISION": "ieee", "EXCLUDED": 1}
    everything = {**VARIANTS, **ROW_KERNELS, **VIEW_KERNELS, **WIDE_ROW_KERNELS}
    compiled = []
    for name, variants in everything.items():
        parameters = kernel_of(name).params
        numbers = [x for x in parameters if not x.name.endswith("_ptr")]
        ones = {x.name: 1 for x in numbers if is_specialized(x)}
        shape = {key: tile[key] for key in tile if key in {x.name for x in parameters}}
        for variant in variants:
            job = Job(name, FIRST, "bf16", {**shape, **variant, **ones}, 4, 2)
            if ones and job not in compiled:  # variants that differ in nothing but a stride
                compile_one(job)
                compiled.append(job)
    assert len(compiled) > 20


def test_every_tile_is_compiled_by_default():
    def tiles(chosen):
        return {
            (job.arch, job.dtype, job.name, *map(job.constants.get, ("BM", "BN", "BD", "D")))
            for job in chosen
            if job.name in HEAVIEST_OF_TABLES
        }

    everything, chosen = list(jobs(everything=True)), list(jobs(everything=False))
    assert tiles(chosen) == tiles(everything)
    assert {job.arch for job in chosen} == set(ARCHITECTURES)
    variants = [
        {
            (job.name, str(job.constants))
            for job in x
            if job.arch == FIRST and "D" not in job.constants
        }
        for x in (everything, chosen)
    ]
    assert variants[0] == variants[1]


def test_what_is_compiled_fits_its_architecture():
    chosen = list(jobs(os.environ.get("SSLKERNELS_COMPILE") == "all"))
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        sizes, broken = zip(*pool.map(judged, chosen), strict=True)
    print("\n".join(sizes))
    broken = [text for text in broken if text]
    assert not broken, "\n".join(broken)
