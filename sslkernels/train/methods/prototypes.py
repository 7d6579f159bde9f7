"""Shared by DINO and iBOT: prototypes, and the schedule of the teacher's temperature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import DINOLoss, KoLeoLoss
from .self_distillation import TEACHER_VIEWS, SelfDistillation, SelfDistillationRecipe


@dataclass(frozen=True, kw_only=True)
class PrototypeRecipe(SelfDistillationRecipe):
    """The settings of losses with prototypes, in addition to those of self-distillation.

    Attributes:
        prototypes: number of prototypes. More distinguish more, but take longer to be used.
        student_temperature: divides the student's logits.
        teacher_temperature: divides the teacher's logits after the warm-up. Below the student's, it
            makes targets sharper than predictions, which prevents collapse to a uniform output.
        first_teacher_temperature: at the start of the warm-up.
        temperature_warmup_epochs: length of the linear warm-up; may be a fraction.
        center_momentum: decay of the teacher's mean logits, which are subtracted from them; this
            prevents collapse to one prototype. 1: no centring.
        frozen_epochs: epochs in which the prototypes are not trained; may be a fraction.
        koleo: weight of the KoLeo regulariser on the student's features (0.1 in DINOv2,
            arXiv:2304.07193). Centring and sharpening alone keep only few prototypes in use.
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


class PrototypeMethod(SelfDistillation):
    """Student and teacher whose logits are cosines with prototypes, of which each has its own.

    The logits themselves are never stored: the losses take unit vectors and prototypes.
    """

    recipe: PrototypeRecipe
    lengths: Tensor

    def __init__(self, backbone: nn.Module, recipe: PrototypeRecipe):
        super().__init__(backbone, recipe)
        drawn = F.normalize(torch.randn(recipe.prototypes, recipe.embedding_size), dim=1)
        self.student.prototypes = nn.Parameter(drawn)
        self.teacher.prototypes = nn.Parameter(drawn.clone(), requires_grad=False)
        self.class_loss = DINOLoss(
            recipe.prototypes,
            student_temp=recipe.student_temperature,
            center_momentum=recipe.center_momentum,
        )
        self.koleo_loss = KoLeoLoss(gather_distributed=True)
        self.register_buffer("lengths", torch.ones(recipe.prototypes), persistent=False)

    def distill(
        self, student: list[Tensor] | tuple[Tensor, ...], teacher: list[Tensor] | tuple[Tensor, ...]
    ) -> Tensor:
        """The loss of all views' unit vectors (n, embedding_size), plus KoLeo of the student's."""
        views = torch.stack(teacher), torch.stack(student)
        loss = self.class_loss(*views, self.teacher_temperature, **self.prototypes)
        if self.recipe.koleo:
            whole = student[:TEACHER_VIEWS]
            loss = loss + self.recipe.koleo * sum(self.koleo_loss(x) for x in whole)
        return loss

    @property
    def prototypes(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The normalised prototypes of both networks, as keyword arguments of the losses."""
        own, their = self.student.prototypes, self.teacher.prototypes
        return {"prototypes": (own, self.lengths), "teacher_prototypes": (their, self.lengths)}

    @property
    def teacher_temperature(self) -> float:
        recipe = self.recipe
        warmed = 1.0
        if recipe.temperature_warmup_epochs:
            warmed = min(1.0, self.progress * recipe.epochs / recipe.temperature_warmup_epochs)
        first, last = recipe.first_teacher_temperature, recipe.teacher_temperature
        return first + (last - first) * warmed

    def before_step(self) -> None:
        if self.progress * self.recipe.epochs < self.recipe.frozen_epochs:
            self.student.prototypes.grad = None
