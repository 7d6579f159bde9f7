"""SimDINO (Wu et al. 2025, arXiv:2502.10385): DINO without prototypes, kept apart by volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...losses import SimDINOLoss
from .self_distillation import TEACHER_VIEWS, SelfDistillation, SelfDistillationRecipe


@dataclass(frozen=True, kw_only=True)
class SimDINORecipe(SelfDistillationRecipe):
    """The settings of SimDINO, beside those of self-distillation.

    Attributes:
        eps: distance below which features count as the same in the coding rate.
        agreement: weight of the cosines of student and teacher against the coding rate.
    """

    eps: float = 0.5
    agreement: float = 1.0


class SimDINO(SelfDistillation):
    """Student and teacher without prototypes, and SimDINO's loss."""

    def __init__(self, backbone: nn.Module, recipe: SimDINORecipe):
        super().__init__(backbone, recipe)
        views = TEACHER_VIEWS + recipe.local_views
        self.coding_loss = SimDINOLoss(views, eps=recipe.eps, coeff=recipe.agreement)

    def loss(self, *embeddings: Tensor) -> Tensor:
        """Of the student's unit vectors of all views, then the teacher's of the first two."""
        student, teacher = embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:]
        return self.coding_loss(torch.cat(student), torch.cat(teacher))[0]
