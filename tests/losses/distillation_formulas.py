"""The self-distillation losses in plain torch, with all distributions in memory.

In the inputs' dtype up to the logits, then float32 (float64 for float64).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from formulas import unit, wide


def cross_entropy(teacher, student):
    """For probabilities and log-probabilities, row by row."""
    return -(teacher * student).sum(-1)


def dino(students, teachers, student_temp, teacher_temp, center=0.0, same_view=False):
    total, terms = 0.0, 0
    for i, t in enumerate(teachers):
        p = F.softmax(wide((t.detach() - center) / teacher_temp), dim=-1)
        for j, s in enumerate(students):
            if same_view or i != j:
                total += cross_entropy(p, F.log_softmax(wide(s / student_temp), dim=-1)).mean()
                terms += 1
    return total / terms


def ibot(student, teacher, mask, student_temp, teacher_temp, center=0.0):
    """Image by image."""
    p = F.softmax(wide((teacher.detach() - center) / teacher_temp), dim=-1)
    rows = cross_entropy(p, F.log_softmax(wide(student / student_temp), dim=-1))
    images = rows.split(mask.flatten(1).sum(1).tolist())
    return sum(x.mean() for x in images if len(x)) / len(mask)


def sinkhorn(logits, epsilon, iterations=3):
    """The plan (N, K), from sums of exponentials without shifts."""
    plan = wide((logits / epsilon).exp())
    for _ in range(iterations):
        plan = plan / plan.sum(0, keepdim=True)
        plan = plan / plan.sum(1, keepdim=True)
    return plan


def swav(high, low, queue=None, temperature=0.1, epsilon=0.05):
    total = 0.0
    for i, crop in enumerate(high):
        logits = crop.detach() if queue is None else torch.cat([crop.detach(), queue[i]])
        plan = sinkhorn(logits, epsilon)[: len(crop)]
        others = [x for j, x in enumerate(high) if j != i] + list(low)
        losses = [
            cross_entropy(plan, F.log_softmax(wide(x / temperature), dim=-1)).mean() for x in others
        ]
        total += sum(losses) / len(losses)
    return total / len(high)


def koleo(x, eps=1e-8, topk=1):
    x = unit(x)
    similarities = (x @ x.T).fill_diagonal_(-2)
    nearest = similarities.topk(topk).indices
    distances = wide(x[:, None] - x[nearest] + eps).norm(dim=-1)
    return -(distances + eps).log().mean()


def msn(anchors, targets, prototypes, distribution=None, temperature=0.1, sharpen=0.25,
        iterations=3):  # fmt: skip
    anchors, targets, prototypes = unit(anchors), unit(targets.detach()), unit(prototypes)
    p = F.softmax(wide(targets @ prototypes.detach().T / temperature), dim=1) ** (1 / sharpen)
    p = p / p.sum(1, keepdim=True)
    for _ in range(iterations):
        p = p / p.sum(0, keepdim=True)
        p = p / p.sum(1, keepdim=True)
    p = p.repeat(len(anchors) // len(targets), 1)
    logits = wide(anchors @ prototypes.T / temperature)
    loss = cross_entropy(p, F.log_softmax(logits, dim=1)).mean()
    mean = F.softmax(logits, dim=1).mean(0)
    if distribution is None:
        return loss + (mean * mean.log()).sum() + math.log(len(mean))
    distribution = distribution.to(mean)
    return loss + (distribution * (distribution.log() - mean.log())).sum()


def capi(teacher, student, index=None, teacher_temp=0.06, student_temp=0.12):
    plan = torch.stack(
        [sinkhorn(x, teacher_temp) for x in teacher.detach().unbind(1)], 1
    )  # (B, N, K)
    if index is not None:
        plan = torch.stack([rows[i] for rows, i in zip(plan, index, strict=True)])
    return cross_entropy(plan, F.log_softmax(wide(student / student_temp), dim=-1)).mean()
