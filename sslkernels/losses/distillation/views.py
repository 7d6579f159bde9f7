"""Views of student and teacher: logits, or features and the prototypes that give the logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from ..._checks import check_tensors, shown
from ..._operator import accumulation_dtype, full_precision
from ...primitives._rows import finite_sum
from ...primitives.soft_cross_entropy import prototype_cross_entropy, soft_cross_entropy

Views = Tensor | Sequence[Tensor]  # (V, B, K), or V of (B, K)
Prototypes = Tensor | tuple[Tensor, Tensor]  # (K, D), or with weight_norm's magnitude


def cross_entropies(
    student: Views,
    teacher: Views,
    prototypes: Prototypes | None,
    teacher_prototypes: Prototypes | None,
    **options: Any,
) -> Tensor:
    """Rows of soft_cross_entropy, or of prototype_cross_entropy if there are prototypes."""
    if (prototypes is None) != (teacher_prototypes is None):
        raise ValueError("prototypes and teacher_prototypes must be given both, or neither")
    if prototypes is None or teacher_prototypes is None:
        return soft_cross_entropy(student, teacher, **options)
    (weight, magnitude), (teacher_weight, teacher_magnitude) = (
        split(x) for x in (prototypes, teacher_prototypes)
    )
    return prototype_cross_entropy(
        student, weight, teacher, teacher_weight,
        magnitude=magnitude, teacher_magnitude=teacher_magnitude, **options,
    )  # fmt: skip


def split(prototypes: Prototypes) -> tuple[Tensor, Tensor | None]:
    """The weight and its magnitude, if any."""
    if isinstance(prototypes, Tensor):
        return prototypes, None
    if not isinstance(prototypes, (list, tuple)) or len(prototypes) != 2:
        raise TypeError(
            "prototypes must be a torch.Tensor, or a pair of prototypes and magnitude; "
            f"got {shown(prototypes)}"
        )
    weight, magnitude = prototypes
    return weight, magnitude


def count(name: str, views: Views) -> int:
    """The number of views."""
    if not isinstance(views, (Tensor, list, tuple)):
        raise TypeError(f"{name} must be a torch.Tensor or a list of them, got {shown(views)}")
    if isinstance(views, (list, tuple)) and not views:
        raise ValueError(f"{name} must hold some views, got none")
    for x in views if isinstance(views, (list, tuple)) else ():
        check_tensors(**{name: x})
    if isinstance(views, Tensor) and views.dim() != 3:
        raise ValueError(f"{name} must be (views, B, K) or a list of (B, K), got shape "
                         f"{tuple(views.shape)}")  # fmt: skip
    return len(views)


def rows(views: Views) -> Tensor:
    """All rows of all views (V · B, K), detached; a copy if they are separate tensors."""
    if isinstance(views, Tensor):
        return views.detach().flatten(0, -2)
    return torch.cat([x.detach() for x in views])


def sum_of_logits(teacher: Views, prototypes: Prototypes | None) -> tuple[Tensor, int | Tensor]:
    """The sum (K,) over the finite rows of the teacher's logits, and their number. The sum is
    linear: from features it needs no logits."""
    tensors = [teacher] if isinstance(teacher, Tensor) else teacher
    dtype = accumulation_dtype(tensors[0])
    with torch.no_grad(), full_precision(tensors[0]):
        sums, numbers = zip(*(finite_sum(x.flatten(0, -2), dtype) for x in tensors), strict=True)
        total, number = reduce(add, sums), sum(numbers)
        if prototypes is None:
            return total, number
        weight, magnitude = split(prototypes)
        total = weight.to(dtype) @ total
        if magnitude is not None:
            total *= magnitude.flatten() / torch.linalg.vector_norm(weight, dim=1, dtype=dtype)
        return total, number
