"""Triton kernels with the tiles of their tables, compiled without a GPU.

``SSLKERNELS_COMPILE=all`` compiles each variant of each kernel for every architecture.
"""

import os

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

from compile_jobs import ARCHITECTURES, FIRST, HEAVIEST_OF_TABLES, VARIANTS, jobs  # noqa: E402
from compile_kernel import all_faults  # noqa: E402


def test_every_tile_is_compiled_somewhere_by_default():
    def tiles(chosen):
        return {
            (job.arch, job.dtype, job.name, *map(job.constants.get, ("BM", "BN", "BD", "D")))
            for job in chosen
            if job.name in HEAVIEST_OF_TABLES and (job.arch == FIRST or job.is_deepest)
        }

    def places(chosen):
        return {(x.name, x.place) for x in chosen if x.arch != FIRST and x.is_heaviest}

    everything, chosen = list(jobs(everything=True)), list(jobs(everything=False))
    assert tiles(chosen) == tiles(everything)
    assert places(chosen) == places(everything)
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


def test_tiles_fit_their_architecture():
    everything = os.environ.get("SSLKERNELS_COMPILE") == "all"
    broken = all_faults(job for job in jobs(everything) if job.name in VARIANTS)
    assert not broken, "\n".join(broken)
