"""DINO (Caron et al. 2021, arXiv:2104.14294): predict the teacher's assignment to prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from .prototypes import PrototypeMethod, PrototypeRecipe
from .self_distillation import TEACHER_VIEWS


@dataclass(frozen=True, kw_only=True)
class DINORecipe(PrototypeRecipe):
    """The settings of DINO."""

    # facebookresearch/dino, main_dino.py: ViT-S/16 for 100 epochs, the defaults on 8 GPUs
    published: ClassVar[dict[str, Any]] = {
        "backbone": "timm:vit_small_patch16_224",
        "image_size": 224,
        "local_size": 96,
        "local_views": 8,
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
        "prototypes": 65536,
        "temperature_warmup_epochs": 0.0,
        "frozen_epochs": 1.0,
        "koleo": 0.0,
        "precision": "float16",
    }


class DINO(PrototypeMethod):
    """Student and teacher with prototypes, and DINO's loss."""

    def loss(self, *embeddings: Tensor) -> Tensor:
        """The loss of the student's unit vectors of all views and the teacher's of the first 2."""
        return self.distill(embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:])
