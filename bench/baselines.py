"""Who is measured: ours and others, each a function of the inputs that returns the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import functional
from sslkernels._ext import extension

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Baseline:
    """``load(temperature)`` returns the loss, or raises ImportError where it cannot run."""

    load: Callable[[float], Loss]
    about: str
    matrices: float = 0  # peak memory, in matrices of the case's ``matrix_size``
    devices: tuple[str, ...] = ("cpu", "cuda")


def nt_xent_ours(temperature: float, impl: str = "auto") -> Loss:
    return lambda out0, out1: functional.nt_xent(out0, out1, temperature, impl=impl)


def nt_xent_cuda(temperature: float) -> Loss:
    try:
        extension(cuda=True)
    except RuntimeError as error:
        raise ImportError("not built with CUDA") from error
    return nt_xent_ours(temperature, "cuda")


def nt_xent_eager(temperature: float) -> Loss:
    def loss(out0: Tensor, out1: Tensor) -> Tensor:
        z = F.normalize(torch.cat([out0, out1]), dim=1)
        scores = z @ z.T / temperature
        scores.fill_diagonal_(float("-inf"))
        partner = torch.arange(len(z), device=z.device).roll(len(out0))
        return F.cross_entropy(scores, partner)

    return loss


def nt_xent_compile(temperature: float) -> Loss:
    torch._dynamo.reset()
    return torch.compile(nt_xent_eager(temperature), dynamic=False)


def nt_xent_exp(temperature: float) -> Loss:
    """The formula as solo-learn states it: plain exponentials, no maximum taken out."""

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
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # a torchvision without its operators; lightly's losses need none of them
        for name in ("nms", "qnms"):
            schema = f"torchvision::{name}"
            torch.library.define(
                schema, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature)


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


BASELINES: dict[str, dict[str, Baseline]] = {
    "nt_xent": {
        "ours": Baseline(nt_xent_ours, "sslkernels.functional.nt_xent"),
        "tiled": Baseline(
            lambda t: nt_xent_ours(t, "tiled"), "ours with impl='tiled': plain torch"
        ),
        "cuda": Baseline(nt_xent_cuda, "ours with impl='cuda'", devices=("cuda",)),
        "eager": Baseline(nt_xent_eager, "plain torch: matmul, cross_entropy", matrices=3),
        "compile": Baseline(nt_xent_compile, "torch.compile of eager", matrices=2),
        "lightly": Baseline(nt_xent_lightly, "lightly.loss.NTXentLoss", matrices=4.25),
        "solo-learn": Baseline(nt_xent_exp, "solo-learn's formulation", matrices=4.5),
        "inf-cl": Baseline(
            nt_xent_inf_cl, "Inf-CL's row log-sum-exp, self removed", devices=("cuda",)
        ),
    },
}
