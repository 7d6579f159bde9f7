"""Implementations of the self-distillation losses: each a function of the inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import DINOLoss, functional, prototype_cross_entropy, soft_cross_entropy

from .baseline import Baseline, Loss, everywhere
from .distillation_cases import (
    EPSILON,
    HIGH,
    STUDENT_TEMPERATURE,
    STUDENTS,
    TEACHER_TEMPERATURE,
)
from .peers import lightly_loss


def dino_ours(temperature: float, impl: str = "auto") -> Loss:
    def loss(*views: Tensor) -> Tensor:
        module = _fresh(DINOLoss, views[0].shape[-1], views[0].device, impl=impl)
        return module(list(views[STUDENTS:]), list(views[:STUDENTS]))

    return loss


def dino_eager(temperature: float) -> Loss:
    """With one matrix of all pairs of views, as in public code."""

    def loss(*views: Tensor) -> Tensor:
        return _cross_view(torch.stack(views[:STUDENTS]), torch.stack(views[STUDENTS:]))

    return loss


def dino_lightly(temperature: float) -> Loss:
    def loss(*views: Tensor) -> Tensor:
        module = _fresh(make, views[0].shape[-1], views[0].device)
        return module(list(views[STUDENTS:]), list(views[:STUDENTS]))

    make = lightly_loss("DINOLoss")
    return loss


def dino_head_ours(temperature: float, impl: str = "auto") -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        module = _fresh(DINOLoss, len(prototypes), student.device, impl=impl)
        return module(teacher, student, prototypes=prototypes, teacher_prototypes=theirs)

    return loss


def dino_head_logits(temperature: float) -> Loss:
    """torch's products, then our loss of the logits, to measure the gain from fusing them."""

    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        module = _fresh(DINOLoss, len(prototypes), student.device)
        return module(teacher @ theirs.T, student @ prototypes.T)

    return loss


def dino_head_eager(temperature: float) -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        return _cross_view(student @ prototypes.T, teacher @ theirs.T)

    return loss


def dino_head_lightly(temperature: float) -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        students, teachers = (student @ prototypes.T).unbind(), (teacher @ theirs.T).unbind()
        module = _fresh(make, len(prototypes), student.device)
        return module(list(teachers), list(students))

    make = lightly_loss("DINOLoss")
    return loss


TEMPERATURES = {
    "student_temperature": STUDENT_TEMPERATURE,
    "teacher_temperature": TEACHER_TEMPERATURE,
}


def ibot_head_ours(temperature: float, impl: str = "auto") -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        how = {**TEMPERATURES, "impl": impl}
        return prototype_cross_entropy(student, prototypes, teacher, theirs, **how).mean()

    return loss


def ibot_head_logits(temperature: float) -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        student, teacher = student @ prototypes.T, teacher @ theirs.T
        return soft_cross_entropy(student, teacher, **TEMPERATURES).mean()

    return loss


def ibot_head_eager(temperature: float) -> Loss:
    def loss(student: Tensor, prototypes: Tensor, teacher: Tensor, theirs: Tensor) -> Tensor:
        p = F.softmax((teacher @ theirs.T).detach() / TEACHER_TEMPERATURE, dim=2)
        logs = F.log_softmax(student @ prototypes.T / STUDENT_TEMPERATURE, dim=2)
        return -(p * logs).sum(2).mean()

    return loss


def swav_ours(temperature: float, impl: str = "auto") -> Loss:
    def loss(*crops: Tensor) -> Tensor:
        return functional.swav(crops[:HIGH], crops[HIGH:], impl=impl)

    return loss


def swav_eager(temperature: float) -> Loss:
    def loss(*crops: Tensor) -> Tensor:
        logs = F.log_softmax(torch.stack(crops) / STUDENT_TEMPERATURE, dim=2)
        plan = torch.exp(torch.stack(crops[:HIGH]).detach() / EPSILON)
        for _ in range(3):
            plan = plan / plan.sum(1, keepdim=True)
            plan = plan / plan.sum(2, keepdim=True)
        return _mean_of_pairs(plan, logs)

    return loss


def swav_lightly(temperature: float) -> Loss:
    module = lightly_loss("SwaVLoss")()

    def loss(*crops: Tensor) -> Tensor:
        return module(list(crops[:HIGH]), list(crops[HIGH:])).squeeze()

    return loss


def _cross_view(student: Tensor, teacher: Tensor) -> Tensor:
    logs = F.log_softmax(student / STUDENT_TEMPERATURE, dim=2)
    return _mean_of_pairs(F.softmax(teacher.detach() / TEACHER_TEMPERATURE, dim=2), logs)


def _mean_of_pairs(p: Tensor, logs: Tensor) -> Tensor:
    pairs = -torch.einsum("tbk,sbk->ts", p, logs)
    return (pairs.sum() - pairs.diagonal().sum()) / (
        (pairs.numel() - min(pairs.shape)) * p.shape[1]
    )


def _fresh(make: type, prototypes: int, device: torch.device, **options) -> torch.nn.Module:
    """A DINO loss with its centre, which follows the teacher, reset to zero."""
    module = make(
        prototypes, teacher_temp=TEACHER_TEMPERATURE, student_temp=STUDENT_TEMPERATURE, **options
    )
    return module.to(device)


BASELINES: dict[str, dict[str, Baseline]] = {
    "dino": everywhere("DINOLoss", dino_ours, dino_eager, 4, 3, has_fused=False)
    | {"lightly": Baseline(dino_lightly, "lightly.loss.DINOLoss, with its centre's update", 4)},
    "dino_head": everywhere(
        "DINOLoss with prototypes", dino_head_ours, dino_head_eager, 5, 4, has_fused=False
    )
    | {
        "logits": Baseline(dino_head_logits, "torch's products, then sslkernels.DINOLoss", 3),
        "lightly": Baseline(dino_head_lightly, "torch's products, then lightly's DINOLoss", 5),
    },
    "ibot_head": everywhere(
        "prototype_cross_entropy", ibot_head_ours, ibot_head_eager, 5, 4, has_fused=False
    )
    | {"logits": Baseline(ibot_head_logits, "torch's products, then soft_cross_entropy", 3)},
    "swav": everywhere("functional.swav", swav_ours, swav_eager, 4, 3, has_fused=False)
    | {"lightly": Baseline(swav_lightly, "lightly.loss.SwaVLoss", 5)},
}
