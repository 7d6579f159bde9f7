"""Contrastive problems of every kind, and their losses from all scores."""

import torch
import torch.nn.functional as F
from oracle import assert_as_exact_as_eager, masked, repeated, results

from sslkernels.primitives.contrastive import Contrastive, contrastive_loss


def labels_of(q):
    return torch.arange(len(q), device=q.device) % 7 * 10**12


def weights_of(q):
    return torch.linspace(0.5, 1.5, 2 * len(q), device=q.device)


# name: (number of tensors after the queries, problem from queries, those tensors, scale and bias)
PROBLEMS = {
    "two views": ("other", lambda q, x, **o: Contrastive(
        q, x, offset=len(q), exclude=(-len(q), 0, len(q)), **o)),
    "decoupled": ("other", lambda q, x, **o: Contrastive(
        q, x, offset=len(q), exclude=(-len(q), 0, len(q)), form="decoupled",
        weights=weights_of(q), **o)),
    "both ways": ("key", lambda q, k, **o: Contrastive(
        q, key=k, exclude=(0,), columns=True, unit_query=False, unit_key=False, **o)),
    "shifted positives": ("key", lambda q, k, **o: Contrastive(
        q, key=k, offset=3, exclude=(3, 3 - len(q)), **o)),
    "queue": ("queue and positive", lambda q, k, p, **o: Contrastive(
        q, key=k, positive=p, unit_key=False, **o)),
    "labels": ("", lambda q, **o: Contrastive(
        q, labels=labels_of(q), exclude=(0,), form="decoupled", **o)),
    "labels, some alone": ("", lambda q, **o: Contrastive(
        q, labels=labels_of(q) + torch.arange(len(q), device=q.device).clamp(max=3),
        exclude=(0,), form="decoupled", skip_alone=True, **o)),
    "sigmoid": ("key", lambda q, k, **o: Contrastive(
        q, key=k, exclude=(0,), form="sigmoid", unit_query=False, unit_key=False, **o)),
}  # fmt: skip


def dense(p):
    """The problem from all its scores."""

    def rows(x, is_unit):
        return F.normalize(x, dim=1) if is_unit else x

    q = rows(p.query if p.other is None else torch.cat([p.query, p.other]), p.unit_query)
    k = q if p.key is None else rows(p.key, p.unit_key)
    scores = q @ k.T * p.scale + p.bias
    index = torch.arange(len(q), device=q.device)
    counted = torch.ones(len(q), dtype=torch.bool, device=q.device)
    if p.labels is not None:
        same = (p.labels[:, None] == p.labels) & (index[:, None] != index)
        positives = (scores * same).sum(1) / same.sum(1).clamp(min=1)
        counted = same.any(1)
    elif p.positive is not None:
        positives = (q * rows(p.positive, p.unit_positive)).sum(1) * p.scale + p.bias
    else:
        positives = scores[index, (index + p.offset) % len(k)]
    if p.weights is not None:
        positives = positives * p.weights.to(q.dtype)
    wide = masked(scores, p.exclude)
    positives = positives.to(wide.dtype)
    if p.form == "sigmoid":
        return (F.softplus(wide).sum(1) + F.softplus(-positives)).mean()
    sides = [wide.logsumexp(1), *([wide.logsumexp(0)] if p.columns else [])]
    losses = [side - positives for side in sides]
    if p.form == "cross_entropy":
        losses = [F.softplus(x, threshold=50) for x in losses]
    loss = sum(losses) / len(losses) * counted
    return loss.sum() / (counted.sum().clamp(min=1) if p.skip_alone else len(loss))


def check(
    name, n=70, m=70, d=24, scale=5.0, dtype=torch.float32, draws=4, constant=(), impl="cpu",
    device="cpu",
):  # fmt: skip
    """Compare with all scores; ``constant``: indices of the inputs without gradient."""
    kind, problem = PROBLEMS[name]

    def draw():
        sizes = {"": [], "other": [n], "key": [n], "queue and positive": [m, n]}[kind]
        inputs = [torch.randn(rows, d, device=device) for rows in (n, *sizes)]
        if name in ("both ways", "sigmoid", "queue"):  # unit length, or nearly
            inputs = [F.normalize(x, dim=1) for x in inputs]
        inputs = [x.to(dtype) for x in inputs]
        inputs += [torch.tensor(x, device=device) for x in (scale, -0.5)]
        if "sigmoid" not in name:
            inputs.pop()

        def run(function):
            def loss(*x):
                *x, last = x
                scalars = {"scale": last}
                if "sigmoid" in name:
                    *x, first = x
                    scalars = {"scale": first, "bias": last}
                return (function(problem(*x, **scalars)),)

            return loss

        return tuple(
            results(run(f), inputs, as_dtype, [torch.ones((), device=device)], constant)
            for f, as_dtype in (
                (lambda p: contrastive_loss(p, impl=impl), dtype),
                (dense, dtype),
                (dense, torch.float64),
            )
        )

    assert_as_exact_as_eager(repeated(draw, draws), floor=1e-6)
