"""Batch normalisation with statistics over all ranks' rows, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._operator import accumulation_dtype
from .collectives import all_reduce
from .gather import Gather, ranks_of


class SyncBatchNorm(_BatchNorm):
    """A torch.nn.SyncBatchNorm for devices that it does not support, such as the CPU.

    Same arguments, parameters and buffers as ``torch.nn.BatchNorm2d``. Ranks may hold different
    numbers of rows. Computed in at least float32; gradients are those of the global batch after
    DistributedDataParallel's mean. Two collectives per call: means, then variances.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"input must be (n, channels, …), got shape {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, …)."""
        self._check_input_dim(x)
        ranks = ranks_of(Gather())
        if ranks is None or not (self.training or self.running_mean is None):
            return super().forward(x)
        wide = x.to(accumulation_dtype(x))
        axes = [i for i in range(x.dim()) if i != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)

        rows = wide.new_full((1,), x.numel() // x.shape[1])
        sums = all_reduce(torch.cat([wide.sum(axes), rows]), "sum", ranks)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = wide - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes), "sum", ranks) / count
        if self.running_mean is not None:
            self._follow(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share: float | Tensor | None = self.momentum
        if share is None:
            share = 1 / self.num_batches_tracked
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronize_batch_norm(module: nn.Module) -> None:
    """Make all batch normalisation within ``module`` use statistics over all ranks, in place.

    Layers keep their parameters, buffers and the names of both. On CUDA they become
    ``torch.nn.SyncBatchNorm``, elsewhere :class:`sslkernels.distributed.SyncBatchNorm`. ``module``
    itself is not replaced.
    """
    for name, child in module.named_children():
        if not isinstance(child, _BatchNorm):
            synchronize_batch_norm(child)
            continue
        tensors = [*child.parameters(), *child.buffers()]
        is_cuda = bool(tensors) and tensors[0].is_cuda
        kind = nn.SyncBatchNorm if is_cuda else SyncBatchNorm
        if isinstance(child, kind):
            continue
        options = child.eps, child.momentum, child.affine, child.track_running_stats
        synced = kind(child.num_features, *options)
        synced._parameters, synced._buffers = child._parameters, child._buffers
        synced.train(child.training)
        setattr(module, name, synced)
