"""The parts of a training step: gradients, the check for finite values, and the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..metrics.encode import autocast
from .grad_cache import GradCache
from .methods import Method
from .recipe import Recipe


def forward_backward(
    network: nn.Module, method: Method, inputs: Sequence[Tensor], recipe: Recipe, scaler: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the gradients of a batch in ``.grad``; return its loss and embeddings.

    ``network`` is ``method``, possibly wrapped. It processes ``recipe.micro_batch`` images of a
    view at a time (0: all of them).
    """
    method.zero_grad(set_to_none=True)
    with autocast(inputs[0].device, recipe.precision):
        if recipe.micro_batch and recipe.micro_batch < len(inputs[0]):
            cached = GradCache(network, method.loss, recipe.micro_batch, scale=scaler.scale)
            return cached(*inputs)
        embeddings = network(*inputs)
        loss = method.loss(*embeddings)
    scaler.scale(loss).backward()
    return loss.detach(), tuple(x.detach() for x in embeddings)


def gradient_norm(method: Method, optimizer: torch.optim.Optimizer, scaler: Any) -> Tensor:
    """The norm of the gradients after unscaling; not finite if one of them is not.

    If a ``GradScaler`` can still lower its scale, it handles gradients that overflow, and the norm
    is 0.
    """
    scaler.unscale_(optimizer)
    method.before_step()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if scaler.is_enabled():
        scale = scaler.scale(torch.ones_like(norm))
        norm = torch.where((scale > 1) & ~norm.isfinite(), 0, norm)
    return norm


def update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    clip: float,
    norm: Tensor | None = None,
    skip: Tensor | None = None,
) -> None:
    """An optimiser step, after which the gradients are no longer valid.

    Args:
        method, optimizer, scaler: those of the run.
        clip: maximum norm of all gradients together; 0: no clipping.
        norm: the result of ``gradient_norm``, if already computed.
        skip: a bool tensor on the device; change nothing if it is true.
    """
    norm = gradient_norm(method, optimizer, scaler) if norm is None else norm
    if clip:
        nn.utils.clip_grads_with_norm_(method.parameters(), clip, norm)
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
        return
    if skip is not None:  # as a GradScaler does
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
    optimizer.step()


def memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """The faster memory layout of images, unless batch normalisation loses accuracy by it."""
    # On the CPU in float32, channels last costs normalised values a digit and a half of accuracy.
    if device.type == "cpu" and precision == "float32":
        return torch.contiguous_format
    return torch.channels_last
