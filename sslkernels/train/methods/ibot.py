"""iBOT (Zhou et al. 2022, arXiv:2111.07832): DINO, plus prediction of masked patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data import DINOViews, View
from ...losses import IBOTPatchLoss
from .momentum import embed
from .prototypes import PrototypeMethod, PrototypeRecipe
from .self_distillation import TEACHER_VIEWS, unit


@dataclass(frozen=True, kw_only=True)
class IBOTRecipe(PrototypeRecipe):
    """The settings of iBOT, in addition to those of losses with prototypes.

    Attributes:
        masked: the fraction of patches masked for the student in whole views. (The authors mask
            only half of the images, with a varying fraction.)
        patches: weight of the patches' loss relative to that of whole images.
    """

    backbone: str = "vit"
    precision: str = "float32"
    batch_size: int = 64
    warmup_epochs: float = 1.0
    temperature_warmup_epochs: float = 1.0
    local_views: int = 0  # type: ignore[misc]
    momentum: float = 0.9
    prototypes: int = 256
    masked: float = 0.3
    patches: float = 1.0

    # bytedance/ibot, README.md and main_ibot.py: ViT-S/16 for 800 epochs on 16 GPUs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "sslkernels.train.backbones:vit_small",
        "image_size": 224,
        "local_size": 96,
        "local_views": 10,
        "epochs": 800,
        "batch_size": 1024,
        "learning_rate": 0.0005 * 1024 / 256,
        "warmup_epochs": 10.0,
        "weight_decay": 0.04,
        "weight_decay_growth": 10.0,
        "clip": 3.0,
        "momentum": 0.996,
        "hidden_size": 2048,
        "embedding_size": 256,
        "projector_norm": False,
        "prototypes": 8192,
        "teacher_temperature": 0.07,
        "temperature_warmup_epochs": 30.0,
        "frozen_epochs": 1.0,
        "koleo": 0.0,
        "masked": 0.3,
        "precision": "float16",
    }

    def views(self) -> tuple[View, ...]:
        return DINOViews(
            global_size=self.image_size,
            local_size=self.local_size,
            local_views=self.local_views,
            global_scale=(0.25, 1.0),
            local_scale=(0.05, 0.25),
        ).views


class IBOT(PrototypeMethod):
    """Student and teacher with prototypes, shared by images and patches, and iBOT's losses."""

    recipe: IBOTRecipe

    def __init__(self, backbone: nn.Module, recipe: IBOTRecipe):
        if not hasattr(backbone, "tokens"):
            raise ValueError(
                "iBOT needs patches: backbone must be vit, or have a method tokens(images, mask), "
                f"got {recipe.backbone!r}"
            )
        super().__init__(backbone, recipe)
        self.student.backbone.mask_token.requires_grad_()
        self.patch_loss = IBOTPatchLoss(
            recipe.prototypes,
            student_temp=recipe.student_temperature,
            center_momentum=recipe.center_momentum,
        )

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """As for other methods; then the student's patches (n, 2, patches, embedding_size) of the
        masked input, the teacher's patches, and the mask (n, 2, patches)."""
        whole, local = torch.cat(views[:TEACHER_VIEWS]), views[TEACHER_VIEWS:]
        with torch.no_grad():
            taught = self.teacher.backbone.tokens(whole)  # type: ignore[operator]
            mask = random_mask(taught[:, 1:, 0], self.recipe.masked)
            taught = self.project(self.teacher, taught)
        seen = self.student.backbone.tokens(whole, mask)  # type: ignore[operator]
        found = self.project(self.student, seen)
        return (
            *found[:, 0].chunk(TEACHER_VIEWS),
            *map(unit, embed(self.student, *local)),
            *taught[:, 0].chunk(TEACHER_VIEWS),
            *(torch.stack(x.chunk(TEACHER_VIEWS), 1) for x in (found[:, 1:], taught[:, 1:], mask)),
        )

    def loss(self, *embeddings: Tensor) -> Tensor:
        """The sum of the losses of the images' unit vectors and of the masked patches'."""
        *images, student, teacher, mask = embeddings
        loss = self.distill(images[:-TEACHER_VIEWS], images[-TEACHER_VIEWS:])
        patches = self.patch_loss(
            teacher[mask],
            student[mask],
            mask.flatten(0, 1),
            self.teacher_temperature,
            **self.prototypes,
        )
        return loss + self.recipe.patches * patches


def random_mask(like: Tensor, fraction: float) -> Tensor:
    """(n, patches) bool: a random fraction of each image's patches, at least one."""
    count = max(1, round(fraction * like.shape[1]))
    order = torch.rand(like.shape, device=like.device).argsort(1)
    return order < count
