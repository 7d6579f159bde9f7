"""What methods have in common whose teacher is the student's moving average."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from .method import Method
from .projection_head import ProjectionHead

TEACHER_VIEWS = 2


@dataclass(frozen=True, kw_only=True)
class SelfDistillationRecipe(Recipe):
    """The settings of self-distillation, beside those of every method.

    Attributes:
        local_views: small views of a part of each image. The student alone sees them, and learns
            to say of a part what the teacher says of the whole.
        momentum: of the teacher's moving average at first; a half cosine takes it to 1. Larger:
            targets that are steadier, and follow later. Papers' 0.996 is for a hundred times as
            many steps.
        hidden_size: width of the head's two hidden layers.
        embedding_size: width of the unit vectors that the head ends in.
    """

    epochs: int = 10
    batch_size: int = 32
    warmup_epochs: float = 2.0
    local_views: int = 2
    momentum: float = 0.95
    hidden_size: int = 256
    embedding_size: int = 64

    may_be_zero = (*Recipe.may_be_zero, "local_views", "momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum > 1:
            raise ValueError(f"momentum must be at most 1, got {self.momentum}")
        if self.micro_batch:
            raise ValueError(
                "micro_batch must be 0 in self-distillation, whose images do not meet in the loss: "
                f"a smaller batch_size does as well; got {self.micro_batch}"
            )


class Network(nn.Module):
    """What the student and its teacher are: a backbone and a head."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


class SelfDistillation(Method):
    """A student that learns from some views what its moving average says of others.

    The average is of the parameters. Statistics of batch normalisation are the teacher's own: it
    sees whole images, as an evaluation does, while the student's mix in the local views.

    Args:
        backbone: of the student; the teacher starts as its copy.
        recipe: the settings.
    """

    def __init__(self, backbone: nn.Module, recipe: SelfDistillationRecipe):
        super().__init__()
        sizes = backbone.feature_size, recipe.hidden_size, recipe.embedding_size
        self.student = Network(backbone, ProjectionHead(*sizes))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.momentum = recipe.momentum

    @property
    def backbone(self) -> nn.Module:
        """The teacher's, which averages over many students."""
        return self.teacher.backbone

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """The student's unit vectors (n, embedding_size) of all views, the first two of which
        show whole images, and then the teacher's of these two."""
        whole, local = views[:TEACHER_VIEWS], views[TEACHER_VIEWS:]
        with torch.no_grad():
            taught = embed(self.teacher, whole)
        return *embed(self.student, whole), *embed(self.student, local), *taught

    @property
    def projector(self) -> nn.Sequential:
        return self.teacher.head.layers

    def after_step(self) -> None:
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * self.progress)) / 2
        follow(self.teacher, self.student, momentum)


def embed(network: nn.Module, views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What ``network`` makes of each of several views of one size, seen as one batch."""
    return network(torch.cat(views)).chunk(len(views)) if views else ()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Make each parameter of the teacher ``momentum`` of itself and the rest of the student's."""
    for average, latest in zip(teacher.parameters(), student.parameters(), strict=True):
        average.lerp_(latest, 1 - momentum)
