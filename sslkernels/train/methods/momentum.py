"""Base of methods with a momentum teacher, an exponential moving average of the student."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from .method import Method


@dataclass(frozen=True, kw_only=True)
class MomentumRecipe(Recipe):
    """The settings of a momentum teacher, in addition to those of every method.

    Attributes:
        momentum: initial decay of the average. A larger value gives more stable targets that lag
            behind more. Published values are for a hundred times as many steps.
        final_momentum: decay at the end, reached along a half cosine.
    """

    momentum: float = 0.95
    final_momentum: float = 1.0

    may_be_zero = (*Recipe.may_be_zero, "momentum", "final_momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("momentum", "final_momentum"):
            if getattr(self, key) > 1:
                raise ValueError(f"{key} must be at most 1, got {getattr(self, key)}")


class Network(nn.Module):
    """A student or teacher network: backbone and projector.

    Attributes:
        prototypes: (prototypes, embedding_size), in methods with prototypes.
    """

    prototypes: nn.Parameter

    def __init__(self, backbone: nn.Module, projector: nn.Sequential):
        super().__init__()
        self.backbone, self.projector = backbone, projector

    def forward(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))


class MomentumMethod(Method):
    """A student that learns from its moving average, the teacher.

    The average is over the parameters; each network has its own batch normalisation statistics.
    The student's backbone is evaluated.

    Args:
        backbone: of the student; the teacher starts as a copy.
        projector: of the student; the teacher starts as a copy.
        recipe: the settings.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Sequential, recipe: MomentumRecipe):
        super().__init__()
        self.student = Network(backbone, projector)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.recipe = recipe

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        return self.student.backbone

    @property
    def projector(self) -> nn.Sequential:  # type: ignore[override]
        return self.student.projector

    @property
    def momentum(self) -> float:
        """The decay at the next step of the average."""
        first, last = self.recipe.momentum, self.recipe.final_momentum
        return last - (last - first) * (1 + math.cos(math.pi * self.progress)) / 2

    def after_step(self) -> None:
        follow(self.teacher, self.student, self.momentum)


def embed(network: Callable[[Tensor], Tensor], *views: Tensor) -> tuple[Tensor, ...]:
    """The results of ``network`` for several views of one size, run as one batch."""
    return network(torch.cat(views)).chunk(len(views)) if views else ()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update the teacher's parameters: ``momentum · teacher + (1 − momentum) · student``."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
