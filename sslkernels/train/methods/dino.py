"""DINO (Caron et al. 2021, arXiv:2104.14294): a student finds its teacher's prototypes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ._peer import DINOLoss
from .projection_head import ProjectionHead, Prototypes
from .self_distillation import SelfDistillation, SelfDistillationRecipe, split


@dataclass(frozen=True, kw_only=True)
class DINORecipe(SelfDistillationRecipe):
    """The settings of DINO, beside those of self-distillation.

    Attributes:
        prototypes: K.
        student_temperature: divides the student's logits.
        teacher_temperature: divides the teacher's, once warmed up. Below the student's, so that
            targets are sharper than predictions, against collapse to the uniform distribution.
        first_teacher_temperature: before the warm-up.
        temperature_warmup_epochs: epochs of linear warm-up from the first; may be a fraction.
        center_momentum: of the teacher's mean logits, whose subtraction is against collapse to one
            prototype.
        frozen_epochs: epochs in which the prototypes stay as they are.
    """

    prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    first_teacher_temperature: float = 0.04
    temperature_warmup_epochs: float = 5.0
    center_momentum: float = 0.9
    frozen_epochs: float = 1.0

    may_be_zero = (
        *SelfDistillationRecipe.may_be_zero,
        "temperature_warmup_epochs",
        "center_momentum",
        "frozen_epochs",
    )


class DINO(SelfDistillation):
    """Student and teacher with prototypes, and DINO's loss."""

    def __init__(self, backbone: nn.Module, recipe: DINORecipe):
        head = nn.Sequential(
            ProjectionHead(backbone.feature_size, recipe.hidden_size, recipe.embedding_size),
            Prototypes(recipe.embedding_size, recipe.prototypes, recipe.frozen_epochs > 0),
        )
        super().__init__(backbone, head, recipe)
        self.class_loss = DINOLoss(
            recipe.prototypes,
            student_temp=recipe.student_temperature,
            center_momentum=recipe.center_momentum,
        )

    def loss(self, *embeddings: Tensor) -> Tensor:
        student, teacher = split(embeddings)
        return self.class_loss(list(teacher), list(student), self.teacher_temperature())

    def teacher_temperature(self) -> float:
        recipe = self.recipe
        warmed = self.progress.item() * recipe.epochs / max(1e-6, recipe.temperature_warmup_epochs)
        first, last = recipe.first_teacher_temperature, recipe.teacher_temperature
        return first + (last - first) * min(1.0, warmed)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        recipe = self.recipe
        self.student.head[1].frozen = progress * recipe.epochs < recipe.frozen_epochs
