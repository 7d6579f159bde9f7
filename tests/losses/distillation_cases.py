"""The self-distillation losses; the columns of an embedding are logits of prototypes."""

from __future__ import annotations

from functools import partial

import distillation_formulas as formulas
import torch
import torch.nn.functional as F
from case import Case, numbers

from sslkernels import functional

K = 40  # prototypes


def center(like):
    return numbers(like, like.shape[-1], seed=4).to(like)


def prototypes(like):
    return numbers(like, K, like.shape[1], seed=5).to(like)


def teacher_prototypes(like):
    return numbers(like, K, like.shape[1], seed=6).to(like)


def magnitude(like):
    return (numbers(like, K, 1, seed=7).abs() + 0.5).to(like)


def prior(like):
    weights = torch.arange(1, K + 1, dtype=torch.float64, device=like.device)
    return weights / weights.sum()


def dino(s0, s1, s2, t0, t1, gather=None, **options):
    return functional.dino(
        student=[s0, s1, s2], teacher=[t0, t1], center=center(s0), gather=gather, **options
    )


def dino_formula(*x, **options):
    return formulas.dino(x[:3], x[3:], 0.1, 0.04, center(x[0]), **options)


def dino_of_features(s0, s1, s2, t0, t1, gather=None):
    return functional.dino(
        student=[s0, s1, s2],
        teacher=[t0, t1],
        prototypes=(prototypes(s0), magnitude(s0)),
        teacher_prototypes=teacher_prototypes(s0),
        gather=gather,
    )


def dino_of_features_formula(*x):
    own = F.normalize(prototypes(x[0]), dim=1) * magnitude(x[0])
    students = [s @ own.T for s in x[:3]]
    teachers = [t @ teacher_prototypes(x[0]).T for t in x[3:]]
    return formulas.dino(students, teachers, 0.1, 0.04)


def one_of_two(student):
    """A mask for as many images as there are rows, with one of two patches masked in each."""
    mask = torch.zeros(len(student), 2, dtype=torch.bool, device=student.device)
    mask[:, 1] = True
    return mask


def ibot(student, teacher, gather=None, **options):
    options["center"] = center(student)
    return functional.ibot(
        student=student, teacher=teacher, mask=one_of_two(student), gather=gather, **options
    )


def ibot_formula(student, teacher):
    return formulas.ibot(student, teacher, one_of_two(student), 0.1, 0.04, center(student))


def msn(anchors, targets, gather=None, **options):
    return functional.msn(anchors, targets, prototypes(anchors), gather=gather, **options)


def small(x):
    """Logits whose exponentials fit in half precision."""
    return 0.1 * x


def tokens(x):
    return x.unflatten(1, (2, -1))


CASES = {
    "dino": Case(dino, dino_formula, 5, constant=2, scalars=()),
    "dino with same views": Case(
        partial(dino, same_view=True), partial(dino_formula, same_view=True), 5, 2, ()
    ),
    "dino of features": Case(
        dino_of_features, dino_of_features_formula, 5, 2, (), prepare=formulas.unit
    ),
    "ibot": Case(ibot, ibot_formula, constant=1, scalars=()),
    "ibot by patches": Case(
        partial(ibot, normalization="patch"), ibot_formula, constant=1, scalars=()
    ),
    "koleo": Case(
        partial(functional.koleo, convention="dinov2"), formulas.koleo, embeddings=1, scalars=()
    ),
    "koleo of three": Case(
        partial(functional.koleo, topk=3, convention="lightly"),
        partial(formulas.koleo, topk=3),
        embeddings=1,
        scalars=(),
    ),
    "swav": Case(
        lambda *x, gather=None: functional.swav(x[:2], x[2:], gather=gather),
        lambda *x: formulas.swav(x[:2], x[2:]),
        embeddings=4,
        scalars=(),
        prepare=small,
    ),
    "msn": Case(msn, lambda a, t: formulas.msn(a, t, prototypes(a)), constant=1, scalars=()),
    "pmsn": Case(
        lambda a, t, gather=None: msn(a, t, distribution=prior(a), gather=gather),
        lambda a, t: formulas.msn(a, t, prototypes(a), prior(a)),
        constant=1,
        scalars=(),
    ),
    "capi": Case(
        lambda s, t, gather=None: functional.capi(
            teacher=tokens(t), student=tokens(s), gather=gather
        ),
        lambda s, t: formulas.capi(tokens(t), tokens(s)),
        constant=1,
        scalars=(),
        prepare=small,
    ),
}
