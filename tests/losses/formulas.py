"""Every loss in plain torch from its paper or its published code, with all matrices.

In the inputs' dtype up to the scores, then float32 (float64 for float64): the float64 truth, and
eager torch's result in the same dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def nt_xent(out0, out1, temperature):
    z = unit(torch.cat([out0, out1]))
    scores = wide(z @ z.T / temperature).fill_diagonal_(float("-inf"))
    n = len(out0)
    return F.cross_entropy(scores, torch.arange(2 * n).roll(n))


def nt_xent_google(out0, out1, temperature):
    """objective.py: loss_a + loss_b, each a mean over N."""
    a, b = unit(out0), unit(out1)
    n, large = len(a), 1e9
    masks = torch.eye(n) * large
    aa, bb = (wide(x @ x.T / temperature) - masks for x in (a, b))
    ab = wide(a @ b.T / temperature)
    labels = torch.arange(n)
    return F.cross_entropy(torch.cat([ab, aa], 1), labels) + F.cross_entropy(
        torch.cat([ab.T, bb], 1), labels
    )


def dcl(out0, out1, temperature, weights=None):
    z0, z1 = unit(out0), unit(out1)
    n = len(z0)
    off = ~torch.eye(n, dtype=torch.bool)

    def direction(a, b):
        same, cross = wide(a @ a.T / temperature), wide(a @ b.T / temperature)
        negatives = torch.cat([same[off].view(n, -1), cross[off].view(n, -1)], 1)
        positives = cross.diagonal() if weights is None else cross.diagonal() * weights(a, b)
        return (torch.logsumexp(negatives, 1) - positives).mean()

    return (direction(z0, z1) + direction(z1, z0)) / 2


def dclw(out0, out1, temperature):
    def weights(a, b):
        return 2 - len(a) * torch.softmax(wide((a * b).sum(1).detach() / 0.5), 0)

    return dcl(out0, out1, temperature, weights)


def moco(query, key, queue, temperature):
    q, k = unit(query), unit(key)
    positives = (q * k).sum(1, keepdim=True)
    scores = wide(torch.cat([positives, q @ queue.T.to(q.dtype)], 1) / temperature)
    return F.cross_entropy(scores, torch.zeros(len(q), dtype=torch.long))


def moco_v3(query, key, temperature):
    q, k = unit(query), unit(key.detach())
    scores = wide(q @ k.T / temperature)
    return 2 * temperature * F.cross_entropy(scores, torch.arange(len(q)))


def nnclr(neighbors, predictions, temperature):
    scores = wide(unit(neighbors.detach()) @ unit(predictions).T / temperature)
    return F.cross_entropy(scores, torch.arange(len(scores)))


def info_nce(query, positive_key, temperature, negative_keys=None):
    q, p = unit(query), unit(positive_key)
    if negative_keys is None:
        return F.cross_entropy(wide(q @ p.T / temperature), torch.arange(len(q)))
    keys = unit(negative_keys)
    scores = q @ keys.T if keys.dim() == 2 else (keys @ q[:, :, None])[:, :, 0]
    scores = wide(torch.cat([(q * p).sum(1, keepdim=True), scores], 1) / temperature)
    return F.cross_entropy(scores, torch.zeros(len(q), dtype=torch.long))


def supcon_rows(features, mask, temperature):
    """HobbitLong/SupContrast with contrast_mode="all": each row's loss and number of positives."""
    n, views, _ = features.shape
    z = torch.cat(unit(features).unbind(1))
    scores = wide(z @ z.T / temperature).fill_diagonal_(float("-inf"))
    log_probability = (scores - torch.logsumexp(scores, 1, keepdim=True)).fill_diagonal_(0.0)
    positives = mask.repeat(views, views).to(log_probability.dtype).fill_diagonal_(0.0)
    count = positives.sum(1)
    return -(positives * log_probability).sum(1) / count.clamp(min=1e-6), count


def same(labels: Tensor) -> Tensor:
    return labels[:, None] == labels[None, :]


def supcon(features, mask, temperature, base_temperature=0.07):
    rows, count = supcon_rows(features, mask, temperature)
    return temperature / base_temperature * rows.masked_fill(count == 0, 0.0).mean()


def supcon_one(features, mask, temperature, base_temperature=0.07):
    rows, count = supcon_rows(features, mask, temperature)
    rows = rows.masked_fill(count == 0, 0.0)[: len(features)]
    return temperature / base_temperature * rows.mean()


def supcon_pml(features, mask, temperature):
    rows, count = supcon_rows(features, mask, temperature)
    return rows[count > 0].mean()


def supcon_solo(features, labels, temperature):
    """solo-learn's simclr_loss_func: positives summed inside the logarithm; every row has some."""
    z = torch.cat(unit(features).unbind(1))
    index = labels.repeat(features.shape[1])
    scores = wide(z @ z.T / temperature).fill_diagonal_(float("-inf"))
    positives = scores.masked_fill(~same(index), float("-inf"))
    return (torch.logsumexp(scores, 1) - torch.logsumexp(positives, 1)).mean()


def clip(image, text, scale):
    scores = wide(scale * image @ text.T)
    labels = torch.arange(len(scores))
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


def siglip(image, text, scale, bias):
    scores = wide(scale * image @ text.T + bias)
    signs = 2 * torch.eye(len(scores), dtype=scores.dtype) - 1
    return -F.logsigmoid(signs * scores).sum() / len(scores)


def simsiam(prediction, projection):
    return -F.cosine_similarity(prediction, projection.detach(), dim=1).mean()


def byol(prediction, projection):
    """DeepMind's regression_loss: the squared distance of unit vectors."""
    return (unit(prediction) - unit(projection.detach())).square().sum(1).mean()


def alignment(x, y, alpha):
    return wide(unit(x) - unit(y)).norm(dim=1).pow(alpha).mean()


def uniformity(x, t):
    return torch.pdist(wide(unit(x))).square().mul(-t).exp().mean().log()


def mmcr(o0, o1, m0, m1, lmda):
    z = torch.stack([o0, o1, m0, m1], 1)
    per_image = torch.linalg.svdvals(wide(z)).sum() / len(z)
    return lmda * per_image - torch.linalg.svdvals(wide(z.mean(1))).sum()


def cca(z_a, z_b, ridge, dimensions=None):
    def covariance(x, y):
        x, y = (wide(z) - wide(z).mean(0) for z in (x, y))
        return x.T @ y / (len(x) - 1)

    def inverse_root(x):
        own = covariance(x, x)
        squares, u = torch.linalg.eigh(own + ridge * torch.eye(len(own), dtype=own.dtype))
        return u / squares.sqrt() @ u.T

    correlations = inverse_root(z_a) @ covariance(z_a, z_b) @ inverse_root(z_b)
    return -torch.linalg.svdvals(correlations)[:dimensions].sum()


def coding_rate(z, eps):
    n, d = z.shape
    z = wide(z)
    return torch.logdet(torch.eye(d).to(z) + d / (n * eps) * z.T @ z) / 2


def simdino(student, teacher, eps, coeff, expa_type):
    cosines = [
        F.cosine_similarity(wide(t), wide(s), dim=-1).mean()
        for i, t in enumerate(teacher)
        for j, s in enumerate(student)
        if i != j
    ]
    views = [wide(s) for s in student[: len(teacher)]]
    if expa_type == 1:
        views = [(s + wide(t)) / 2 for s, t in zip(views, teacher, strict=True)]
    n, d = views[0].shape
    expansion = torch.stack([coding_rate(x, eps) for x in views]).mean() * (d + n) / (d * n)
    return -coeff * torch.stack(cosines).mean() - expansion


def offdiagonal(x):
    return x - torch.diag(x.diagonal())


def barlow_twins(z_a, z_b, lambda_param, correction=0, eps=1e-5, outer_eps=0.0):
    def standardized(z):
        deviation = (z.var(0, correction=correction) + eps).sqrt() + outer_eps
        return (z - z.mean(0)) / deviation

    c = wide(standardized(z_a).T @ standardized(z_b) / len(z_a))
    return (c.diagonal() - 1).square().sum() + lambda_param * offdiagonal(c).square().sum()


def covariance(z):
    centered = z - z.mean(0)
    return wide(centered.T @ centered / (len(z) - 1))


def hinges(*views):
    return sum(F.relu(1 - (wide(z).var(0) + 1e-4).sqrt()).mean() for z in views)


def vicreg(z_a, z_b, halves=0.5, nu=1.0):
    covariances = sum(offdiagonal(covariance(z)).square().sum() for z in (z_a, z_b))
    return (
        25 * wide(z_a - z_b).square().mean()
        + 25 * halves * hinges(z_a, z_b)
        + nu * covariances / z_a.shape[1]
    )


def vicreg_maps(z_a, z_b, nu=1.0):
    """For (N, L, D): invariance is a mean over everything, the rest over the locations."""
    locations = zip(z_a.unbind(1), z_b.unbind(1), strict=True)
    return torch.stack([vicreg(*x, nu=nu) for x in locations]).mean()


def vicregl(large, small, counts, alpha=0.75):
    """For views (pooled, map, grid): every large one with every other."""
    views = [*large, *small]
    pairs = [(a, b) for i, a in enumerate(large) for j, b in enumerate(views) if i != j]
    distances = [wide(a[0] - b[0]).square().mean() for a, b in pairs]
    squares = [offdiagonal(covariance(z)).square().sum() / z.shape[1] for z, _, _ in views]
    pooled = 25 * sum(distances) / len(pairs) + sum(squares) / len(views)
    pooled = pooled + 25 * hinges(*(z for z, _, _ in views)) / len(views)

    def matched(a, b, by, count):
        """The cells of a nearest to any of b, in order of distance, and those of b."""
        x, y, x_place, y_place = (z.flatten(1, 2) for z in (a[1], b[1], a[by], b[by]))
        distance, neighbor = (x_place[:, :, None] - y_place[:, None]).norm(dim=3).min(2)
        chosen = distance.argsort(1)[:, :count]
        images = torch.arange(len(x))[:, None]
        return vicreg_maps(x[images, chosen], y[images, neighbor[images, chosen]], nu=0.5)

    cells = [
        (matched(a, b, by, counts[0]) + matched(b, a, by, counts[1])) / 2
        for a, b in pairs
        for by in (1, 2)
    ]
    return alpha * pooled + (1 - alpha) * sum(cells) / len(pairs)


def vibcreg(z_a, z_b):
    """solo-learn's vibcreg_loss_func."""
    correlations = (F.normalize(z - z.mean(0), dim=0) for z in (z_a, z_b))
    squares = (offdiagonal(wide(z.T @ z)).square().mean() for z in correlations)
    return 25 * wide(z_a - z_b).square().mean() + 25 * hinges(z_a, z_b) + 200 * sum(squares)


def spectral_contrastive(z_a, z_b, mu):
    """The authors' spectral_contrastive_loss."""
    n, d = z_a.shape

    def cut(z):
        inside = (z.norm(dim=1) < mu**0.5).to(z.dtype)[:, None]
        return inside * z + (1 - inside) * unit(z) * mu**0.5

    a, b = cut(z_a), cut(z_b)
    squares = wide(a @ b.T).square()
    negatives = (squares.triu(1) + squares.tril(-1)).mean() * n / (n - 1)
    return (negatives - 2 * wide(a * b).mean() * d) / mu


def w_mse(z_a, z_b, eps):
    def whiten(x):
        x = wide(x) - wide(x).mean(0)
        own = (1 - eps) * x.T @ x / (len(x) - 1) + eps * torch.eye(x.shape[1], dtype=x.dtype)
        return x @ torch.linalg.inv(torch.linalg.cholesky(own)).T

    return (unit(whiten(z_a)) - unit(whiten(z_b))).square().sum(1).mean()


def tico(z_a, z_b, before, beta, rho):
    a, b = unit(z_a), unit(z_b)
    covariance = beta * before.to(wide(a)) + (1 - beta) * wide(a.T @ a).detach() / len(a)
    contrast = (wide(a) @ covariance * wide(a)).sum(1).mean()
    return 1 - wide((a * b).sum(1)).mean() + rho * contrast
