"""The compiled extension, or why it is absent."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch  # before _C, which then shares torch's OpenMP runtime and its threads
from torch import Tensor

try:
    _C: Any = import_module("sslkernels._C")
except ImportError as error:
    _C, _reason = None, str(error)

_PACKAGE = Path(__file__).parent

HAS_EXTENSION: bool = _C is not None
MANY_BYTES = 1 << 24
HAS_CUDA_EXTENSION: bool = HAS_EXTENSION and _C.has_cuda

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # sslkernels::DType


def extension(*, cuda: bool = False) -> ModuleType:
    """Return ``sslkernels._C``. Raises RuntimeError if it (or its CUDA part) was not built."""
    if _C is None:
        raise RuntimeError(_absence())
    if cuda and not _C.has_cuda:
        raise RuntimeError(
            "sslkernels._C was built without CUDA. Reinstall with SSLKERNELS_CUDA=on and nvcc on "
            "PATH (or CUDA_HOME set), or use impl='triton'"
        )
    return _C


def _absence() -> str:
    """Why there is no extension, and what to do."""
    is_source = (_PACKAGE.parent / "CMakeLists.txt").exists()
    if is_source and not any(_PACKAGE.glob("_C.*")):
        return (
            f"Python imports the source folder {_PACKAGE}, in which no C++ kernels were built: "
            f"leave {_PACKAGE.parent}, or install it in place with `pip install -e .`, or use "
            "impl='tiled'"
        )
    return (
        f"sslkernels._C is not available ({_reason}). It needs a C++ compiler at install time: "
        "reinstall with one, read the lines that start with 'sslkernels:', or use impl='tiled'"
    )


def address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def matrix(x: Tensor) -> tuple[int, ...]:
    """sslkernels::Matrix of a two-dimensional tensor."""
    return (x.data_ptr(), DTYPES[x.dtype], *x.shape, *x.stride())


def stream(x: Tensor) -> int:
    """The CUDA stream that work on x goes to."""
    return torch.cuda.current_stream(x.device).cuda_stream


def new_pages(x: Tensor) -> Tensor:
    """x, a large tensor that nothing has been written to: its first writes then cost less."""
    if HAS_EXTENSION and x.device.type == "cpu" and x.nbytes >= MANY_BYTES:
        _C.use_huge_pages(x.data_ptr(), x.nbytes)
    return x
