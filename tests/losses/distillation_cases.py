"""The losses of self-distillation; the columns of an embedding are prototypes' logits."""

from __future__ import annotations

from functools import partial

import distillation_formulas as formulas
import torch
import torch.nn.functional as F
from case import Case

from sslkernels import functional

_generator = torch.Generator().manual_seed(4)
CENTER = torch.randn(16, generator=_generator)
PROTOTYPES, TEACHER_PROTOTYPES = (torch.randn(40, 16, generator=_generator) for _ in range(2))
MAGNITUDE = torch.rand(40, 1, generator=_generator) + 0.5
PRIOR = torch.arange(1, 41).double() / torch.arange(1, 41).sum()


def on(x, like):
    """A constant in the dtype of an input, on its device."""
    return x.to(like)


def dino(s0, s1, s2, t0, t1, gather=None, **options):
    return functional.dino([s0, s1, s2], [t0, t1], center=on(CENTER, s0), gather=gather, **options)


def dino_formula(*x, **options):
    return formulas.dino(x[:3], x[3:], 0.1, 0.04, on(CENTER, x[0]), **options)


def dino_of_features(s0, s1, s2, t0, t1, gather=None):
    return functional.dino(
        [s0, s1, s2],
        [t0, t1],
        prototypes=(on(PROTOTYPES, s0), on(MAGNITUDE, s0)),
        teacher_prototypes=on(TEACHER_PROTOTYPES, s0),
        gather=gather,
    )


def dino_of_features_formula(*x):
    own = F.normalize(on(PROTOTYPES, x[0]), dim=1) * on(MAGNITUDE, x[0])
    students = [s @ own.T for s in x[:3]]
    teachers = [t @ on(TEACHER_PROTOTYPES, x[0]).T for t in x[3:]]
    return formulas.dino(students, teachers, 0.1, 0.04)


def one_of_two(student):
    """A mask of as many images as there are rows, one of whose two patches is masked."""
    mask = torch.zeros(len(student), 2, dtype=torch.bool, device=student.device)
    mask[:, 1] = True
    return mask


def ibot(student, teacher, gather=None, **options):
    mask, center = one_of_two(student), on(CENTER, student)
    return functional.ibot(student, teacher, mask, center=center, gather=gather, **options)


def ibot_formula(student, teacher):
    mask, center = one_of_two(student), on(CENTER, student)
    return formulas.ibot(student, teacher, mask, 0.1, 0.04, center)


def msn(anchors, targets, gather=None, **options):
    prototypes = on(PROTOTYPES, anchors)
    return functional.msn(anchors, targets, prototypes, gather=gather, **options)


def small(x):
    """Logits whose exponentials half precision can hold as well."""
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
    "koleo": Case(functional.koleo, formulas.koleo, embeddings=1, scalars=()),
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
    "msn": Case(msn, lambda a, t: formulas.msn(a, t, on(PROTOTYPES, a)), constant=1, scalars=()),
    "pmsn": Case(
        lambda a, t, gather=None: msn(a, t, distribution=PRIOR.to(a.device), gather=gather),
        lambda a, t: formulas.msn(a, t, on(PROTOTYPES, a), PRIOR.to(a.device)),
        constant=1,
        scalars=(),
    ),
    "capi": Case(
        lambda s, t, gather=None: functional.capi(tokens(t), tokens(s), gather=gather),
        lambda s, t: formulas.capi(tokens(t), tokens(s)),
        constant=1,
        scalars=(),
        prepare=small,
    ),
}
