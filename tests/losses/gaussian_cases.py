"""The losses on random slices, with slices that are exact in every dtype."""

from __future__ import annotations

from functools import partial

import gaussian_formulas as formulas
import torch
from case import Case, numbers

from sslkernels import functional

SLICES = 24
CLOSE = 3e-5  # far above float32's rounding of standardised projections


def directions(like):
    """(D, M) unit columns, exactly representable in half precision."""
    columns = numbers(like, like.shape[-1], SLICES, seed=8)
    return (columns / columns.norm(dim=0)).bfloat16().to(like.dtype)


def sigreg(*views, gather=None, **options):
    z = torch.stack(views)
    return functional.sigreg(z, directions(z), gather=gather, **options)


def clipped(*views, gather=None):
    return sigreg(*views, reduction="sum", clip_value=0.8, gather=gather)


def clipped_formula(*views):
    statistics = formulas.sigreg_statistics(torch.stack(views), directions(views[0]))
    # by whole statistics, independent of the side of the clip that rounding chooses
    exact = formulas.sigreg_statistics(torch.stack(views).double(), directions(views[0]).double())
    return (statistics * (exact >= 0.8)).sum()


def lejepa(g0, g1, l0, l1, l2, gather=None, **options):
    views = torch.stack([g0, g1]), torch.stack([l0, l1, l2])
    return functional.lejepa(*views, directions(g0), gather=gather, **options)


def lewm(p0, p1, e0, e1, e2, t0, t1, gather=None, **options):
    steps = [torch.stack(x, 1) for x in ((p0, p1), (t0, t1), (e0, e1, e2))]
    return functional.lewm(*steps, directions(p0), gather=gather, **options)


def lewm_formula(p0, p1, e0, e1, e2, t0, t1, normalize=False):
    steps = [torch.stack(x, 1) for x in ((p0, p1), (t0, t1), (e0, e1, e2))]
    return formulas.lewm(*steps, directions(p0), 0.1, normalize)


def stacked(formula, *options):
    return lambda *views: formula(
        torch.stack(views), *options[:1], directions(views[0]), *options[1:]
    )


def visreg(g0, g1, l0, l1, l2, gather=None, **options):
    views = torch.stack([g0, g1]), torch.stack([l0, l1, l2])
    return functional.visreg(*views, directions(g0), gather=gather, **options)


def apart(x):
    """The samples, moved until no two are close on a direction after standardisation.

    Rounding decides which of two equal projections is larger, and each order has its own gradient.
    """
    for _ in range(100):  # a few suffice for few rows
        projections, order = (
            ((x - x.mean(0)) / x.std(0, correction=0)) @ directions(x)
        ).sort(0)  # fmt: skip
        close, slices = (projections.diff(dim=0) < CLOSE).nonzero(as_tuple=True)
        if not len(close):
            return x
        x = x.clone()
        x[order[close, slices]] *= 1.01
    return x


CASES = {
    "sigreg": Case(
        sigreg,
        lambda *x: formulas.sigreg(torch.stack(x), directions(x[0])),
        scalars=(),
    ),
    "sigreg of 8 knots": Case(
        partial(sigreg, knots=8, t_max=5.0),
        lambda *x: formulas.sigreg(torch.stack(x), directions(x[0]), 8, 5.0),
        scalars=(),
    ),
    "sigreg clipped": Case(clipped, clipped_formula, scalars=()),
    "lejepa": Case(lejepa, stacked(formulas.lejepa, 2, 0.05), embeddings=5, scalars=()),
    "lejepa stable_pretraining": Case(
        partial(lejepa, lambda_param=0.02, convention="stable_pretraining"),
        stacked(formulas.lejepa_flat, 2, 0.02),
        embeddings=5,
        scalars=(),
    ),
    "lewm": Case(lewm, lewm_formula, embeddings=7, constant=2, scalars=()),
    "lewm normalized": Case(
        partial(lewm, normalize=True),
        partial(lewm_formula, normalize=True),
        embeddings=7,
        constant=2,
        scalars=(),
    ),
    "visreg": Case(visreg, stacked(formulas.visreg, 2), embeddings=5, scalars=(), prepare=apart),
    "visreg weighted": Case(
        partial(
            visreg, lambda_param=0.6, lambda_scale=2.0, lambda_shape=3.0, lambda_center=0.5, eps=0.1
        ),
        stacked(formulas.visreg, 2, 0.6, (2.0, 3.0, 0.5), 0.1),
        embeddings=5,
        scalars=(),
        prepare=apart,
    ),
    "bcs": Case(
        lambda a, b, gather=None: functional.bcs(a, b, directions(a), gather=gather),
        lambda a, b: formulas.bcs(a, b, directions(a), 10.0),
        scalars=(),
    ),
}
