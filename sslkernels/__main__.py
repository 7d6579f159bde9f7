"""``python -m sslkernels``: what is installed and what it can use; worth adding to a bug report."""

from importlib.metadata import PackageNotFoundError, version

import torch

from . import _ext


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    if _ext.HAS_EXTENSION:
        cuda = "with CUDA" if _ext.HAS_CUDA_EXTENSION else "without CUDA"
        kernels = f"C++ for {', '.join(_ext.extension().instruction_sets())}; {cuda}"
    else:
        kernels = "pure Python, no C++ kernels: on the CPU, tiled torch stands in"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"sslkernels  {installed('sslkernels')}: {kernels}")
    print(f"torch       {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"triton      {installed('triton')}")
    print(f"GPU         {', '.join(devices) or 'none'}")


if __name__ == "__main__":
    main()
