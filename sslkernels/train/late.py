"""Numbers of a step that are copied to the host while the device continues."""

from __future__ import annotations

import torch
from torch import Tensor


class Late:
    """Asynchronous copies of scalars to the host, read one step later on CUDA.

    Args:
        numbers: (n,), on any device.
    """

    def __init__(self, numbers: Tensor):
        self._copy, self._copied = numbers, None
        if numbers.is_cuda:
            self._copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._copy.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> list[float]:
        """The numbers; waits for the device work queued before the copy."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copy.tolist()
