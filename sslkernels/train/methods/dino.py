"""DINO (Caron et al. 2021, arXiv:2104.14294): a student finds its teacher's prototypes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .prototypes import PrototypeMethod, PrototypeRecipe
from .self_distillation import TEACHER_VIEWS


@dataclass(frozen=True, kw_only=True)
class DINORecipe(PrototypeRecipe):
    """The settings of DINO."""


class DINO(PrototypeMethod):
    """Student and teacher with prototypes, and DINO's loss."""

    def loss(self, *embeddings: Tensor) -> Tensor:
        """Of the student's unit vectors of all views, then the teacher's of the first two."""
        return self.distill(embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:])
