"""``python -m sslkernels``: what is installed and what computes; worth adding to a bug report."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

import torch

from . import _ext
from .compat.patching import PEERS
from .primitives import _arguments

INDENT = 26  # of the second column
DTYPES = torch.float32, torch.bfloat16, torch.float16, torch.float64
MEANINGS = {
    "cpu": "the C++ kernels",
    "triton": "the Triton kernels",
    "tiled": "torch, block by block; the only one for float64",
}

# Distributions, and what is lost without any of them.
OPTIONAL = {
    ("triton",): "torch computes CUDA tensors, block by block",
    ("nvidia-dali-cuda130", "nvidia-dali-cuda120"): "Pillow reads images, on the CPU",
    ("pillow",): "no images are read, unless by DALI",
    ("matplotlib",): "no plots",
    ("tqdm",): "training shows no progress bar",
    ("scikit-image",): "no photographs to train on",
    ("torchvision",): "no backbone torchvision:NAME",
    ("timm",): "no backbone timm:NAME",
}


def installed(*distributions: str) -> str | None:
    """The version of the first that is installed."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            pass
    return None


def line(name: str, *values: object) -> str:
    *columns, last = values
    return f"  {name:{INDENT - 2}}" + "".join(f"{x!s:10}" for x in columns) + str(last)


def versions() -> Iterator[str]:
    yield "Versions"
    yield line("sslkernels", installed("sslkernels") or "not installed: run from its source")
    yield line("Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield line("torch", torch.__version__)
    yield line("Triton", installed("triton") or "not installed")
    yield line("CUDA", cuda())


def cuda() -> str:
    if torch.version.cuda is None:
        return "none: this build of torch has no CUDA"
    if not torch.cuda.is_available():
        return f"runtime {torch.version.cuda}; no usable driver or no GPU"
    driver = torch._C._cuda_getDriverVersion()  # type: ignore[attr-defined]
    return f"runtime {torch.version.cuda}; driver for {driver // 1000}.{driver % 1000 // 10}"


def processors() -> Iterator[str]:
    yield "Processors"
    yield line("CPU", f"torch uses {torch.get_num_threads()} threads")
    try:
        extension = _ext.extension()
    except RuntimeError as error:
        yield line("C++ kernels", "no C++ kernels")
        reason = textwrap.fill(
            str(error), 80 - INDENT, break_long_words=False, break_on_hyphens=False
        )
        yield textwrap.indent(reason, " " * INDENT)
    else:
        used, *others = extension.instruction_sets()
        yield line("C++ kernels", f"{used} in use" + f"; also {', '.join(others)}" * bool(others))
        threads = (
            "as many as torch" if extension.has_openmp else "none: the C++ kernels use one thread"
        )
        yield line("OpenMP threads", threads)
        yield line("CUDA C++ kernels", "built" if extension.has_cuda else "not built")
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        yield line(f"GPU {i}", torch.cuda.get_device_name(i))
        yield line("", f"compute capability {major}.{minor}")
    if torch.cuda.device_count() == 0:
        yield line("GPU", "none")


def chosen(device: str, dtype: torch.dtype) -> str:
    """What ``impl="auto"`` means for such a tensor, which need not be possible here."""
    tensor: Any = SimpleNamespace(device=torch.device(device), dtype=dtype)
    return _arguments.choose("auto", _arguments.IMPLEMENTATIONS, tensor)


def choices() -> Iterator[str]:
    yield 'What impl="auto" chooses'
    yield line("", *[str(x).removeprefix("torch.") for x in DTYPES])
    table = {device: [chosen(device, x) for x in DTYPES] for device in ("cpu", "cuda")}
    for device, names in table.items():
        yield line(f"{device.upper()} tensors", *names)
    for name in sorted({x for names in table.values() for x in names}):
        yield line("", f"{name}: {MEANINGS[name]}")


def packages() -> Iterator[str]:
    """Optional ones: a version; or what is lost without, and how to install them."""
    yield "Optional packages"
    optional = dict(OPTIONAL)
    for peer in PEERS:
        if distribution := import_module(f"{__package__}.compat.{peer}").PEER.distribution:
            optional[distribution,] = f"nothing for patch({peer!r})"
    for distributions, loss in optional.items():
        name, found = distributions[0], installed(*distributions)
        yield line(name, found or f"missing: {loss}")
        if found is None:
            yield line("", f"pip install {name}")


def main() -> None:
    for section in (versions, processors, choices, packages):
        print(*section(), sep="\n")


if __name__ == "__main__":
    main()
