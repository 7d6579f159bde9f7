"""Optimisers and their schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .methods import Method
from .recipe import Recipe

MOMENTUM = 0.9


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), with momentum.

    The update of a matrix or convolution, including weight decay, is scaled to ``trust`` times the
    norm of its weights. Vectors (biases and the weights of norms) are neither scaled nor decayed:
    the convention of SimCLR, BYOL, Barlow Twins and VICReg.

    Like torch's fused optimisers, a step changes nothing if the attribute ``found_inf``, a tensor
    set by a ``GradScaler`` or the loop, is not 0.

    Args:
        params: tensors, or parameter groups with their own ``lr`` and ``weight_decay``.
        lr: learning rate, above 0.
        momentum: in [0, 1), applied to updates before the learning rate.
        weight_decay: times the weight, added to the gradient.
        trust: ratio of the norms of an update and of its weights, above 0.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        momentum: float = MOMENTUM,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ):
        if not (lr > 0 and 0 <= momentum < 1 and weight_decay >= 0 and trust > 0):
            raise ValueError(
                "lr and trust must be above 0, momentum in [0, 1), weight_decay at least 0, got "
                f"{lr}, {trust}, {momentum}, {weight_decay}"
            )
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    _step_supports_amp_scaling = True  # a GradScaler then sets found_inf without a sync

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        found_inf = getattr(self, "found_inf", None)
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            updates = [p.grad.clone() for p in weights]
            scaled = [i for i, p in enumerate(weights) if p.ndim > 1]
            if scaled:
                matrices = [weights[i] for i in scaled]
                chosen = [updates[i] for i in scaled]
                torch._foreach_add_(chosen, matrices, alpha=group["weight_decay"])
                sizes = zip(torch._foreach_norm(matrices), torch._foreach_norm(chosen), strict=True)
                ratios = [
                    torch.where((weight > 0) & (update > 0), group["trust"] * weight / update, 1.0)
                    for weight, update in sizes
                ]
                torch._foreach_mul_(chosen, ratios)
            for p in weights:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            moving = [self.state[p]["momentum"] for p in weights]
            if not moving:
                continue
            momentum, rate = group["momentum"], -group["lr"]
            if found_inf is not None:
                keep = found_inf == 0
                updates = [torch.where(keep, update, 0) for update in updates]
                momentum, rate = torch.where(keep, momentum, 1.0), torch.where(keep, rate, 0.0)
            torch._foreach_mul_(moving, momentum)
            torch._foreach_add_(moving, updates)
            torch._foreach_add_(weights, torch._foreach_mul(moving, rate))
        return loss


def make_optimizer(
    method: Method, recipe: Recipe, *, can_skip: bool = False
) -> torch.optim.Optimizer:
    """The recipe's optimiser, with parameter groups: weight decay for matrices only, not for
    biases, norms and the like.

    ``method.rate`` multiplies the recipe's learning rate for a parameter. With ``can_skip`` a step
    does nothing if the tensor ``optimizer.found_inf`` is not 0.
    """
    members: dict[tuple[bool, float], list[Tensor]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            members.setdefault((parameter.ndim > 1, method.rate(name)), []).append(parameter)
    groups = [
        {"params": some, "weight_decay": recipe.weight_decay if decays else 0.0, "rate": rate}
        for (decays, rate), some in members.items()
    ]
    if recipe.optimizer == "lars":
        return LARS(groups, recipe.learning_rate)
    fused = can_skip or None  # only torch's fused ones use found_inf; None: torch chooses
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=MOMENTUM, fused=fused)
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=fused)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that may have been saved on a different kind of device."""
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved |= {key: own[key] for key in ("fused",) if key in own}
    optimizer.load_state_dict(state)


def set_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, steps_per_epoch: int
) -> float:
    """Set learning rate and weight decay for a step, counted from 0; return the former."""
    total, warmup = recipe.epochs * steps_per_epoch, recipe.warmup_epochs * steps_per_epoch
    learning_rate = recipe.learning_rate * warmup_cosine(total, warmup, step)
    decay = recipe.weight_decay * growth(recipe.weight_decay_growth, step / total)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)
        if group["weight_decay"]:
            group["weight_decay"] = decay
    return learning_rate


def warmup_cosine(total_steps: int, warmup_steps: float, step: int) -> float:
    """The fraction of the peak learning rate at a step: linear up, then a half cosine down to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def growth(factor: float, progress: float) -> float:
    """From 1 at the start to ``factor`` at the end, along a half cosine."""
    return factor + (1 - factor) * (1 + math.cos(math.pi * progress)) / 2
