"""Contrastive losses: a log-sum-exp over pairwise similarities minus the positives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..primitives import pairwise_logsumexp


def nt_xent(
    out0: Tensor, out1: Tensor, temperature: float | Tensor = 0.5, *, impl: str = "auto"
) -> Tensor:
    r"""NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).

    Each of the 2N embeddings has its other view as positive and the 2N − 2 others as negatives:
    ``mean_i [log Σ_{j≠i} exp(cos(z_i, z_j) / T) − cos(z_i, z_pair(i)) / T]``, the mean over all 2N.
    (The original TensorFlow code sums the two views' means instead: twice this value.)

    Args:
        out0: (N, D) embeddings of one view, not necessarily normalised; float16, bfloat16, float32
            or float64.
        out1: (N, D) embeddings of the other view, in the same order, dtype and device.
        temperature: T, a number or a one-element tensor, which may require a gradient. Any sign.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs). No NaN at low temperatures:
        sums are shifted by their largest term. A zero embedding counts as similarity 0.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes that differ, or a temperature with \|T\| < 1e-8.
    """
    _check_pair(out0, out1)
    _check_temperature(temperature)
    dtype = torch.promote_types(out0.dtype, torch.float32)
    if isinstance(temperature, Tensor):  # in half precision its inverse would lose digits
        temperature = temperature.to(out0.device, dtype).reshape(())
    with torch.autocast(out0.device.type, enabled=False):
        embeddings = F.normalize(torch.cat([out0, out1]).to(dtype), dim=1)  # (2N, D)
        embeddings = embeddings.to(out0.dtype)  # as in the products, so in the positives
        z0, z1 = embeddings.to(dtype).chunk(2)
        rows = pairwise_logsumexp(embeddings, embeddings, 1 / temperature, exclude=(0,), impl=impl)
        positives = torch.linalg.vecdot(z0, z1).repeat(2) / temperature
        return (rows - positives).mean()


class NTXentLoss(nn.Module):
    """NT-Xent as a module: constructor, defaults and values of ``lightly.loss.NTXentLoss``.

    Formula, shapes and dtypes: :func:`sslkernels.functional.nt_xent`.

    Args:
        temperature: T, a number or a one-element tensor or ``nn.Parameter`` (then it is learned).
        memory_bank_size: 0. A memory bank of negatives is not there yet.
        gather_distributed: False. Negatives from other ranks are not there yet.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Raises:
        ValueError: |temperature| < 1e-8, or a negative memory bank size.
        NotImplementedError: a memory bank, or ``gather_distributed=True``.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        *,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        _check_temperature(temperature)
        sizes = [memory_bank_size] if isinstance(memory_bank_size, int) else list(memory_bank_size)
        if any(size < 0 for size in sizes):
            raise ValueError(f"memory_bank_size must not be negative, got {memory_bank_size}")
        if any(sizes):
            raise NotImplementedError(
                f"NTXentLoss has no memory bank yet, got memory_bank_size={memory_bank_size}; "
                "use memory_bank_size=0, whose negatives are the batch"
            )
        if gather_distributed:
            raise NotImplementedError(
                "NTXentLoss does not gather across ranks yet; use gather_distributed=False, whose "
                "negatives are the rank's own batch"
            )
        self.temperature = temperature
        self.memory_bank_size = memory_bank_size
        self.gather_distributed = gather_distributed
        self.impl = impl

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        return nt_xent(out0, out1, self.temperature, impl=self.impl)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, impl={self.impl!r}"


def _check_pair(out0: Tensor, out1: Tensor) -> None:
    for name, x in (("out0", out0), ("out1", out1)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if out0.dim() != 2 or out0.shape != out1.shape:
        raise ValueError(
            "out0 and out1 must have one shape (N, D), "
            f"got {tuple(out0.shape)} and {tuple(out1.shape)}"
        )
    if out0.dtype != out1.dtype or not out0.is_floating_point():
        raise TypeError(
            f"out0 and out1 must have one floating-point dtype, got {out0.dtype} and {out1.dtype}"
        )


def _check_temperature(temperature: float | Tensor) -> None:
    # A tensor's value is the user's care: to read it would stall the device at every step.
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(f"temperature must have one element, got {tuple(temperature.shape)}")
    elif not (math.isfinite(temperature) and abs(temperature) >= 1e-8):
        raise ValueError(f"temperature must be finite with |T| >= 1e-8, got {temperature}")
