"""Base of DINO and similar methods: local views, and a teacher whose backbone is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import DINOViews, View
from ..backbones import feature_size
from .momentum import MomentumMethod, MomentumRecipe, Network, embed
from .perceptron import perceptron

TEACHER_VIEWS = 2


@dataclass(frozen=True, kw_only=True)
class SelfDistillationRecipe(MomentumRecipe):
    """The settings of self-distillation, in addition to those of a momentum teacher.

    Attributes:
        local_views: small views of a part of each image, for the student alone, which learns to
            predict the teacher's output for the whole image from them.
        hidden_size: width of the projector's two hidden layers.
        embedding_size: width of its output, unit vectors.
        projector_norm: batch normalisation in the projector. Published transformers have none.
    """

    epochs: int = 10
    batch_size: int = 32
    warmup_epochs: float = 2.0
    local_views: int = 2  # type: ignore[misc]
    hidden_size: int = 256
    embedding_size: int = 64
    projector_norm: bool = True

    may_be_zero = (*MomentumRecipe.may_be_zero, "local_views")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch:
            raise ValueError(
                "micro_batch must be 0 in self-distillation, whose loss does not compare images: "
                f"a smaller batch_size does as well; got {self.micro_batch}"
            )

    def views(self) -> tuple[View, ...]:
        return DINOViews(
            global_size=self.image_size, local_size=self.local_size, local_views=self.local_views
        ).views


class SelfDistillation(MomentumMethod):
    """A student that predicts the output of its moving average for other views.

    The teacher's backbone is evaluated: it sees only whole images, as in evaluation, while the
    student's batch normalisation also sees local views; and it averages over many students.

    Args:
        backbone: of the student; the teacher starts as a copy.
        recipe: the settings.
    """

    def __init__(self, backbone: nn.Module, recipe: SelfDistillationRecipe):
        hidden = [recipe.hidden_size] * 2
        sizes = [feature_size(backbone), *hidden, recipe.embedding_size]
        projector = perceptron(sizes, norm=recipe.projector_norm, activation=nn.GELU)
        super().__init__(backbone, projector, recipe)

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        return self.teacher.backbone

    @property
    def projector(self) -> nn.Sequential:  # type: ignore[override]
        return self.teacher.projector

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """The student's unit vectors (n, embedding_size) of all views, starting with the two whole
        views, and then the teacher's of these two."""
        whole, local = views[:TEACHER_VIEWS], views[TEACHER_VIEWS:]
        with torch.no_grad():
            taught = embed(self.teacher, *whole)
        found = *embed(self.student, *whole), *embed(self.student, *local)
        return tuple(map(unit, (*found, *taught)))

    @staticmethod
    def project(network: Network, tokens: Tensor) -> Tensor:
        """Unit vectors (n, tokens, embedding_size) of a backbone's tokens."""
        return unit(network.projector(tokens.flatten(0, 1))).unflatten(0, tokens.shape[:2])


def unit(embeddings: Tensor) -> Tensor:
    """Vectors (n, d) of length one, in float32 (float64 for float64 embeddings)."""
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    return F.normalize(embeddings.to(dtype), dim=1)
