"""The loss of DINO and iBOT, and the prototypes that it compares with."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...primitives import nearest_neighbor
from ._peer import DINOLoss
from .self_distillation import TEACHER_VIEWS, SelfDistillationRecipe


@dataclass(frozen=True, kw_only=True)
class PrototypeRecipe(SelfDistillationRecipe):
    """The settings of losses with prototypes, beside those of self-distillation.

    Attributes:
        prototypes: how many. More say more of an image, and are found later.
        student_temperature: divides the student's logits.
        teacher_temperature: divides the teacher's, once warmed up. Below the student's, targets
            are sharper than predictions: against collapse to one opinion of nothing.
        first_teacher_temperature: before the warm-up, when teachers should not be too sure.
        temperature_warmup_epochs: how long a line leads from the first to the last; may be a
            fraction.
        center_momentum: of the teacher's mean logits, which are subtracted from them: against
            collapse to one prototype.
        frozen_epochs: how long the prototypes stay as they were drawn; may be a fraction.
        koleo: weight of the spread of the student's features (DINOv2, arXiv:2304.07193, has 0.1).
            Centring and sharpening keep prototypes in use, but leave them few for long.
    """

    prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    first_teacher_temperature: float = 0.04
    temperature_warmup_epochs: float = 2.0
    center_momentum: float = 0.9
    frozen_epochs: float = 1.0
    koleo: float = 0.3

    may_be_zero = (
        *SelfDistillationRecipe.may_be_zero,
        "temperature_warmup_epochs",
        "center_momentum",
        "frozen_epochs",
        "koleo",
    )


class PrototypeLoss(nn.Module):
    """DINO's loss (Caron et al. 2021, arXiv:2104.14294) of unit vectors.

    Logits are cosines with prototypes: the teacher's follow the student's, as the networks do.
    """

    progress: Tensor

    def __init__(self, recipe: PrototypeRecipe):
        super().__init__()
        self.recipe = recipe
        self.student = Prototypes(recipe.embedding_size, recipe.prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.class_loss = DINOLoss(
            recipe.prototypes,
            student_temp=recipe.student_temperature,
            center_momentum=recipe.center_momentum,
        )
        self.register_buffer("progress", torch.zeros(()))
        self.at(0.0)

    def forward(self, *embeddings: Tensor) -> Tensor:
        """The loss of the student's unit vectors (n, embedding_size) and the teacher's last two."""
        student, teacher = embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:]
        loss = self.class_loss(
            [self.teacher(x.detach()) for x in teacher],
            [self.student(x) for x in student],
            self.teacher_temperature,
        )
        return loss + self.recipe.koleo * sum(koleo(x) for x in student[:TEACHER_VIEWS])
