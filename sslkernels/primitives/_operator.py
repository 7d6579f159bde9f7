"""What the operators do around their kernels."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def plain(q: Tensor):
    """What autocast would lower is float32 here, and kernels launch on the tensor's device."""
    with torch.autocast(q.device.type, enabled=False), torch.no_grad(), torch.cuda.device_of(q):
        yield


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """In which x is computed: float32 for up to 32 bits, else float64."""
    return torch.promote_types(x.dtype, torch.float32)


def unit_of(peak: Tensor) -> Tensor:
    """The power of two that brings a gradient to where float16 is exact; ``peak``: its largest."""
    exponent = (14 - torch.frexp(peak)[1]).clamp(-100, 100)
    if peak.dtype == torch.float64:  # by its bits: a power of two that is computed may be rounded
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent + 127) << 23).view(torch.float32)
