"""Whether DALI is available, and what to do if it is not."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from .._checks import as_device

HAS_DALI = find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None


def import_dali() -> None:
    """Raise an ImportError that explains how to get DALI, unless it can be imported."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"DALI is missing ({error}); on Linux, try `pip install nvidia-dali-cuda130`. "
            f"PILReader reads the same images without it"
        ) from None


def check_device(device: torch.device | str) -> torch.device:
    """The device with its index; ValueError if DALI cannot use it."""
    device = as_device(device, meta=True)
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise ValueError(f"DALI works on cpu or cuda, got device {str(device)!r}")
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r} was asked for, and PyTorch sees {torch.cuda.device_count()} "
            f"GPUs; take device='cpu'"
        )
    return torch.device("cuda", index)
