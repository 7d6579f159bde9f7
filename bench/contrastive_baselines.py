"""Implementations of the contrastive losses: each a function of the inputs."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import functional

from .baseline import Baseline, Loss, everywhere
from .peers import lightly_loss, open_clip_losses


def nt_xent_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.nt_xent, temperature=temperature, impl=impl)


def nt_xent_eager(temperature: float) -> Loss:
    def loss(out0: Tensor, out1: Tensor) -> Tensor:
        z = F.normalize(torch.cat([out0, out1]), dim=1)
        scores = z @ z.T / temperature
        scores.fill_diagonal_(float("-inf"))
        partner = torch.arange(len(z), device=z.device).roll(len(out0))
        return F.cross_entropy(scores, partner)

    return loss


def nt_xent_exp(temperature: float) -> Loss:
    """The formula in solo-learn: plain exponentials, without subtracting the maximum."""

    def loss(out0: Tensor, out1: Tensor) -> Tensor:
        z = F.normalize(torch.cat([out0, out1]), dim=1)
        similarity = torch.exp(z @ z.T / temperature)
        index = torch.arange(len(z), device=z.device)
        image = index % len(out0)
        same = image[:, None] == image[None, :]
        positive = torch.sum(similarity * (same & (index[:, None] != index[None, :])), 1)
        negative = torch.sum(similarity * ~same, 1)
        return -torch.log(positive / (positive + negative)).mean()

    return loss


def nt_xent_lightly(temperature: float) -> Loss:
    return lightly_loss("NTXentLoss")(temperature)


def nt_xent_inf_cl(temperature: float) -> Loss:
    from inf_cl.flash import FlashProb

    def loss(out0: Tensor, out1: Tensor) -> Tensor:
        z = F.normalize(torch.cat([out0, out1]).float(), dim=1) / temperature**0.5
        heads = z.view(len(z), -1, min(z.shape[1], 256))
        rows = FlashProb.apply(heads, heads)
        rows = rows + torch.log1p(-torch.exp(z.square().sum(1) - rows))  # its sum includes self
        z0, z1 = z.chunk(2)
        return rows.mean() - (z0 * z1).sum(1).mean()

    return loss


def dcl_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.dcl, temperature=temperature, impl=impl)


def dcl_eager(temperature: float) -> Loss:
    def loss(out0: Tensor, out1: Tensor) -> Tensor:
        z = F.normalize(torch.cat([out0, out1]), dim=1)
        n = len(out0)
        scores = z @ z.T / temperature
        for offset in (-n, 0, n):
            scores.diagonal(offset).fill_(float("-inf"))
        positives = (z[:n] * z[n:]).sum(1) / temperature
        return torch.logsumexp(scores, 1).mean() - positives.mean()

    return loss


def dcl_lightly(temperature: float) -> Loss:
    return lightly_loss("DCLLoss")(temperature)


def supcon_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.supcon, temperature=temperature, base_temperature=None, impl=impl)


def supcon_eager(temperature: float) -> Loss:
    def loss(features: Tensor, labels: Tensor) -> Tensor:
        z = F.normalize(features, dim=1)
        scores = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
        same = (labels[:, None] == labels[None, :]).fill_diagonal_(False)
        positives = F.log_softmax(scores, 1).masked_fill(~same, 0.0).sum(1)
        return -(positives / same.sum(1).clamp(min=1)).mean()

    return loss


def supcon_supcontrast(temperature: float) -> Loss:
    """The formula in HobbitLong/SupContrast: float masks, with the maximum subtracted."""

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        z = F.normalize(features, dim=1)
        others = 1 - torch.eye(len(z), device=z.device)
        positives = (labels[:, None] == labels[None, :]).float() * others
        scores = z @ z.T / temperature
        scores = scores - scores.amax(1, keepdim=True).detach()
        log_sums = torch.log((torch.exp(scores) * others).sum(1, keepdim=True))
        count = positives.sum(1).clamp(min=1)
        return -((positives * (scores - log_sums)).sum(1) / count).mean()

    return loss


def supcon_pml(temperature: float) -> Loss:
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature)


def clip_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.clip, impl=impl)


def clip_eager(temperature: float) -> Loss:
    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        scores = scale * image @ text.T
        target = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2

    return loss


def clip_linear_cross_entropy(temperature: float) -> Loss:
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise ImportError("this torch has no chunked linear_cross_entropy")
    options = torch.nn.LinearCrossEntropyOptions()

    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        image = scale * image
        target = torch.arange(len(image), device=image.device)
        rows = F.linear_cross_entropy(image, text, target, options=options)
        columns = F.linear_cross_entropy(text, image, target, options=options)
        return (rows + columns) / 2

    return loss


def clip_open_clip(temperature: float) -> Loss:
    return open_clip_losses().ClipLoss()


def siglip_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.siglip, impl=impl)


def siglip_eager(temperature: float) -> Loss:
    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        scores = scale * image @ text.T + bias
        return (F.softplus(scores).sum() - scores.diagonal().sum()) / len(scores)

    return loss


def siglip_open_clip(temperature: float) -> Loss:
    return open_clip_losses().SigLipLoss()


def moco_ours(temperature: float, impl: str = "auto") -> Loss:
    return partial(functional.moco, temperature=temperature, impl=impl)


def moco_eager(temperature: float) -> Loss:
    def loss(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
        positives = (query * key).sum(1, keepdim=True)
        scores = torch.cat([positives, query @ queue.T], 1) / temperature
        return F.cross_entropy(scores, torch.zeros(len(query), dtype=int, device=query.device))

    return loss


BASELINES: dict[str, dict[str, Baseline]] = {
    "nt_xent": everywhere("functional.nt_xent", nt_xent_ours, nt_xent_eager, 3, 2)
    | {
        "lightly": Baseline(nt_xent_lightly, "lightly.loss.NTXentLoss", 4.25),
        "solo-learn": Baseline(nt_xent_exp, "solo-learn's formulation", 4.5),
        "inf-cl": Baseline(
            nt_xent_inf_cl, "Inf-CL's row log-sum-exp, self removed", devices=("cuda",)
        ),
    },
    "dcl": everywhere("functional.dcl", dcl_ours, dcl_eager, 4, 2)
    | {"lightly": Baseline(dcl_lightly, "lightly.loss.DCLLoss", 3)},
    "supcon": everywhere("functional.supcon", supcon_ours, supcon_eager, 4.5, 2.25)
    | {
        "supcontrast": Baseline(
            supcon_supcontrast, "HobbitLong/SupContrast's formulation, base_temperature = T", 6
        ),
        "pml": Baseline(
            supcon_pml, "pytorch_metric_learning.losses.SupConLoss; same from N = 20 up", 11.25
        ),
    },
    "clip": everywhere("functional.clip", clip_ours, clip_eager, 4, 2)
    | {
        "linear-ce": Baseline(
            clip_linear_cross_entropy,
            "torch's chunked linear_cross_entropy, whose forward pass takes the gradients too",
        ),
        "open-clip": Baseline(clip_open_clip, "open_clip.loss.ClipLoss", 4),
    },
    "siglip": everywhere("functional.siglip", siglip_ours, siglip_eager, 3, 2, has_cuda=False)
    | {"open-clip": Baseline(siglip_open_clip, "open_clip.loss.SigLipLoss", 5)},
    "moco": everywhere("functional.moco", moco_ours, moco_eager, 3, 1),
}
