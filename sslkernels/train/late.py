"""Numbers of a step on their way to the host, which reads them while the device works on."""

from __future__ import annotations

import torch
from torch import Tensor


class Late:
    """Copies of scalars on the host; of a CUDA device they may be a step late, and never awaited.

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
        """The numbers; waits for what the device did before they were copied."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copy.tolist()
