"""The losses on random slices in plain torch: the projections at every knot are stored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def epps_pulley(p: Tensor, t: Tensor, weights: Tensor) -> Tensor:
    """For samples p (…, N, M): ``∫ |φ_empirical − φ_normal|²``."""
    angles = p[..., None] * t
    normal = torch.exp(-t.square() / 2)
    error = (angles.cos().mean(-3) - normal).square() + angles.sin().mean(-3).square()
    return error @ weights


def sigreg_statistics(z, directions, knots=17, t_max=3.0):
    t = torch.linspace(0, t_max, knots, dtype=z.dtype, device=z.device)
    weights = torch.full_like(t, 2 * t_max / (knots - 1)) * torch.exp(-t.square() / 2)
    weights = torch.cat([weights[:1] / 2, weights[1:-1], weights[-1:] / 2])
    return epps_pulley(z @ directions, t, weights) * z.shape[-2]


def sigreg(z, directions, knots=17, t_max=3.0):
    return sigreg_statistics(z, directions, knots, t_max).mean()


def invariance(z, global_views):
    return (z - z[:global_views].mean(0)).square().mean()


def lejepa(z, global_views, directions, lambda_param):
    return lambda_param * sigreg(z, directions) + (1 - lambda_param) * invariance(z, global_views)


def lejepa_flat(z, global_views, directions, lambda_param):
    return lambda_param * sigreg(z.flatten(0, 1), directions) + invariance(z, global_views)


def visreg(z, global_views, directions, lambda_param=0.9, weights=(1, 1, 1), eps=1e-4):
    mean = z.mean(-2, keepdim=True)
    variance = z.var(-2, correction=0, keepdim=True)
    deviation = torch.where(variance > 0, variance, 1).sqrt() * (variance > 0)
    places = torch.arange(1, z.shape[-2] + 1, dtype=torch.float64, device=z.device)
    normal = torch.special.ndtri(places / (len(places) + 1)).to(z.dtype)
    projections = ((z - mean) / (deviation.detach() + eps)) @ directions
    shape = (projections.sort(-2).values - normal[:, None]).square().mean()
    terms = (1 - deviation).square().mean(), shape, mean.square().mean()
    regularizer = sum(x * weight for x, weight in zip(terms, weights, strict=True))
    return (1 - lambda_param) * invariance(z, global_views) + lambda_param * regularizer


def lewm(predicted, target, embeddings, directions, lambda_param, normalize):
    target = target.detach()
    if normalize:
        predicted, target = (F.layer_norm(x, x.shape[-1:]) for x in (predicted, target))
    steps = torch.stack([sigreg(x, directions) for x in embeddings.unbind(1)])
    return (predicted - target).square().mean() + lambda_param * steps.mean()


def bcs(z_a, z_b, directions, lambda_param):
    t = torch.linspace(-3, 3, 10, dtype=z_a.dtype, device=z_a.device)
    weights = torch.full_like(t, 2 / 3) * torch.exp(-t.square() / 2)
    weights = torch.cat([weights[:1] / 2, weights[1:-1], weights[-1:] / 2])
    slices = sum(epps_pulley(z @ directions, t, weights).mean() for z in (z_a, z_b)) / 2
    return F.mse_loss(z_a, z_b) + lambda_param * slices
