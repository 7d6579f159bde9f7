"""What methods have in common whose teacher is the student's moving average."""

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
    """The settings of a moving average, beside those of every method.

    Attributes:
        momentum: of the average at first: how much of itself it keeps at each step. Larger: targets
            that are steadier, and follow later. Published ones are for a hundred times as many
            steps.
        final_momentum: at the end, to which a half cosine leads.
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
    """What a student and its teacher are: a backbone and a projector.

    Attributes:
        prototypes: (prototypes, embedding_size), of methods that have some.
    """

    prototypes: nn.Parameter

    def __init__(self, backbone: nn.Module, projector: nn.Sequential):
        super().__init__()
        self.backbone, self.projector = backbone, projector

    def forward(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))


class MomentumMethod(Method):
    """A student that learns from its moving average, the teacher.

    The average is of the parameters. Statistics of batch normalisation are each network's own.
    The student's backbone is what is evaluated.

    Args:
        backbone: of the student; the teacher starts as its copy.
        projector: of the student, likewise.
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
        """Of the next step of the average."""
        first, last = self.recipe.momentum, self.recipe.final_momentum
        return last - (last - first) * (1 + math.cos(math.pi * self.progress)) / 2

    def after_step(self) -> None:
        follow(self.teacher, self.student, self.momentum)


def embed(network: Callable[[Tensor], Tensor], *views: Tensor) -> tuple[Tensor, ...]:
    """What ``network`` makes of each of several views of one size, seen as one batch."""
    return network(torch.cat(views)).chunk(len(views)) if views else ()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Make each parameter of the teacher ``momentum`` of itself and the rest of the student's."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
