"""Contrastive losses: a log-sum-exp over pairwise similarities minus the positives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..primitives import pairwise_logsumexp


def nt_xent(
    out0: Tensor, out1: Tensor, temperature: float | Tensor = 0.5, *, impl: str = "auto"
) -> Tensor:
    """NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1)."""
    dtype = torch.promote_types(out0.dtype, torch.float32)
    with torch.autocast(out0.device.type, enabled=False):
        embeddings = F.normalize(torch.cat([out0, out1]).to(dtype), dim=1).to(out0.dtype)
        z0, z1 = embeddings.to(dtype).chunk(2)
        positives = (z0 * z1).sum(1) / temperature
        rows = pairwise_logsumexp(embeddings, embeddings, 1 / temperature, exclude=(0,), impl=impl)
        return rows.mean() - positives.mean()


class NTXentLoss(nn.Module):
    def __init__(
        self,
        temperature: float = 0.5,
        memory_bank_size: int = 0,
        gather_distributed: bool = False,
        *,
        impl: str = "auto",
    ):
        super().__init__()
        self.temperature, self.impl = temperature, impl

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        return nt_xent(out0, out1, self.temperature, impl=self.impl)
