"""SimDINO (Wu et al. 2025, arXiv:2502.10385): DINO with a coding rate instead of prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...losses import SimDINOLoss
from .self_distillation import TEACHER_VIEWS, SelfDistillation, SelfDistillationRecipe


@dataclass(frozen=True, kw_only=True)
class SimDINORecipe(SelfDistillationRecipe):
    """The settings of SimDINO, in addition to those of self-distillation.

    Attributes:
        eps: squared distortion of the coding rate: finer differences of features do not count.
        agreement: weight of the cosines of student and teacher relative to the coding rate.
    """

    eps: float = 0.5
    agreement: float = 1.0

    # RobinWu218/SimDINO, README.md and simdino/main_dino.py: ViT-B/16 on 8 GPUs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "timm:vit_base_patch16_224",
        "image_size": 224,
        "local_size": 96,
        "local_views": 10,
        "epochs": 100,
        "batch_size": 512,
        "learning_rate": 0.0005 * 512 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 0.04,
        "weight_decay_growth": 10.0,
        "clip": 3.0,
        "momentum": 0.996,
        "hidden_size": 2048,
        "embedding_size": 256,
        "projector_norm": False,
        "eps": 0.05,
        "agreement": 1.0,
        "precision": "float16",
    }


class SimDINO(SelfDistillation):
    """Student and teacher without prototypes, and SimDINO's loss."""

    def __init__(self, backbone: nn.Module, recipe: SimDINORecipe):
        super().__init__(backbone, recipe)
        self.coding_loss = SimDINOLoss(
            TEACHER_VIEWS + recipe.local_views,
            eps=recipe.eps,
            coeff=recipe.agreement,
            gather_distributed=True,
        )

    def loss(self, *embeddings: Tensor) -> Tensor:
        """The loss of the student's unit vectors of all views and the teacher's of the first 2."""
        student, teacher = embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:]
        return self.coding_loss(torch.cat(student), torch.cat(teacher))[0]
