"""From images to features."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .._checks import check_choice, shown

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@torch.no_grad()
def encode(
    encoder: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], precision: str = "float32"
) -> tuple[Tensor, Tensor]:
    """Features of images, in evaluation mode.

    Args:
        encoder: maps images (n, channels, height, width) to features (n, d).
        batches: of images and labels (n,), both on the encoder's device.
        precision: "float32", or the dtype of autocast: "bfloat16", "float16"; "auto": bfloat16 on
            CUDA devices from compute capability 8.0 on and on CPUs with AVX512-BF16 or AMX, else
            float32.

    Returns:
        ``(features, labels)``: (N, d) float32 and (N,) int64 of all batches.

    Raises:
        TypeError: ``encoder`` is not a module, or ``batches`` do not contain pairs of tensors.
        ValueError: there is no batch, or no such precision.
    """
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"encoder must be an nn.Module, got {shown(encoder)}")
    check_choice("precision", precision, ("auto", *PRECISIONS))
    if not isinstance(batches, Iterable) or hasattr(batches, "dtype"):
        raise TypeError(f"batches must be pairs of images and labels, got {shown(batches)}")
    features, labels = [], []
    with evaluation_mode(encoder):
        for batch in batches:
            is_pair = isinstance(batch, tuple | list) and len(batch) == 2
            if not is_pair or not all(isinstance(x, Tensor) for x in batch):
                raise TypeError(f"batches must be pairs of images and labels, got {shown(batch)}")
            images, classes = batch
            with autocast(images.device, precision):
                features.append(encoder(images).float())
            labels.append(classes)
    if not features:
        raise ValueError("batches must hold one at least, got none")
    return torch.cat(features), torch.cat(labels)


def settle_precision(precision: str, device: torch.device) -> str:
    """``precision``; for "auto" bfloat16 if the device supports it in hardware, else float32.

    That is, on CUDA devices from compute capability 8.0 on, and CPUs with AVX512-BF16 or AMX.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        known = torch.cpu.get_capabilities()
        fast = known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return "bfloat16" if fast else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast to ``precision``, "auto" or one of ``PRECISIONS``; "float32" has no effect."""
    dtype = PRECISIONS[settle_precision(precision, device)]
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def evaluation_mode(module: nn.Module):
    """Switch a module to evaluation mode temporarily, and restore the mode of each submodule."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
