"""Compiles the recorded kernels for an H100, and checks them against its limits.

    python -m pytest -p bench.rehearsal.plugin --recording FILE tests/gpu
    TRITON_CACHE_DIR=DIRECTORY python -m bench.rehearsal.compile FILE

The keys of Triton's cache are those of a launch, so a device with the directory at the same path,
and the same Triton, compiles nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import NamedTemporaryFile

import triton
from triton.backends.compiler import GPUTarget

from .recording import Specialisation, read

TARGET = GPUTarget("cuda", 90, 32)
SHARED = 227 * 1024  # maximum bytes per block
DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def main(argv: Sequence[str] | None = None) -> None:
    """Compile, and report what does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rehearsal.compile", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("--one-of-each", action="store_true", help="one per kernel")
    arguments = parser.parse_args(argv)
    specialisations = read(arguments.recording)
    if arguments.one_of_each:
        specialisations = one_of_each(specialisations)
    faults = list(compile_all(specialisations))
    print(f"{len(specialisations)} specialisations compiled")
    if faults:
        parser.exit(1, "\n".join(faults) + "\n")


def one_of_each(specialisations: Iterable[Specialisation]) -> list[Specialisation]:
    """The first specialisation of each kernel."""
    chosen: dict[tuple[str, str], Specialisation] = {}
    for x in specialisations:
        chosen.setdefault((x.module, x.kernel), x)
    return list(chosen.values())


def compile_all(specialisations: Sequence[Specialisation]) -> Iterator[str]:
    """Compile in separate processes, into Triton's cache; yields faults."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from filter(None, pool.map(fault, specialisations))


def fault(specialisation: Specialisation) -> str:
    """The limit that a block exceeds, or why there is no kernel; empty if all is well."""
    try:
        kernel = triton.compile(
            specialisation.source(), target=TARGET, options=dict(specialisation.options)
        )
    except Exception as error:
        return f"{specialisation}: {error!r}"
    found = []
    if stack := stack_of(kernel.asm["cubin"]):
        found.append(f"{stack} bytes of stack")
    if kernel.metadata.shared > SHARED:
        found.append(f"{kernel.metadata.shared} bytes of shared memory")
    return f"{specialisation}: {', '.join(found)}" if found else ""


def stack_of(binary: bytes) -> int:
    """Stack bytes per thread, for register spills."""
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage = subprocess.run(
            [DISASSEMBLER, "--dump-resource-usage", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    return int(re.search(r"STACK:(\d+)", usage)[1])


if __name__ == "__main__":
    main()
