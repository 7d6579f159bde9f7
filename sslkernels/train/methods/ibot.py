"""iBOT (Zhou et al. 2022, arXiv:2111.07832): DINO, and masked patches find the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...losses import IBOTPatchLoss
from .prototypes import PrototypeMethod, PrototypeRecipe
from .self_distillation import TEACHER_VIEWS, embed


@dataclass(frozen=True, kw_only=True)
class IBOTRecipe(PrototypeRecipe):
    """The settings of iBOT, beside those of losses with prototypes.

    Attributes:
        masked: the fraction of patches that the student does not see in whole views.
        patches: weight of the patches' loss against that of whole images.
    """

    backbone: str = "vit"
    masked: float = 0.3
    patches: float = 1.0


class IBOT(PrototypeMethod):
    """Student and teacher with prototypes, which images and patches share, and iBOT's losses."""

    def __init__(self, backbone: nn.Module, recipe: IBOTRecipe):
        if not hasattr(backbone, "tokens"):
            raise ValueError(f"iBOT needs patches: backbone must be vit, got {recipe.backbone!r}")
        super().__init__(backbone, recipe)
        self.patch_loss = IBOTPatchLoss(
            recipe.prototypes,
            student_temp=recipe.student_temperature,
            center_momentum=recipe.center_momentum,
        )

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """As of other methods; then the student's patches (2n, patches, embedding_size), whose mask
        (2n, patches) it did not see through, the teacher's, and the mask."""
        whole, local = torch.cat(views[:TEACHER_VIEWS]), views[TEACHER_VIEWS:]
        with torch.no_grad():
            taught = self.teacher.backbone.tokens(whole)
            mask = random_mask(taught[:, 1:, 0], self.recipe.masked)
            taught = _project(self.teacher, taught)
        found = _project(self.student, self.student.backbone.tokens(whole, mask))
        return (
            *found[:, 0].chunk(TEACHER_VIEWS),
            *embed(self.student, local),
            *taught[:, 0].chunk(TEACHER_VIEWS),
            found[:, 1:],
            taught[:, 1:],
            mask,
        )

    def loss(self, *embeddings: Tensor) -> Tensor:
        """Of the images' unit vectors and of the masked patches'."""
        *images, student, teacher, mask = embeddings
        loss = self.distill(images[:-TEACHER_VIEWS], images[-TEACHER_VIEWS:])
        patches = self.patch_loss(
            teacher[mask], student[mask], mask, self.teacher_temperature, **self.prototypes
        )
        return loss + self.recipe.patches * patches


def random_mask(like: Tensor, fraction: float) -> Tensor:
    """(n, patches) bool: as many of each image, at least one, drawn anew."""
    count = max(1, round(fraction * like.shape[1]))
    order = torch.rand(like.shape, device=like.device).argsort(1)
    return order < count


def _project(network: nn.Module, tokens: Tensor) -> Tensor:
    """Every token's unit vector."""
    return network.head(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
