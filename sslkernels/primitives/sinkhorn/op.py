"""The operator as torch sees it: schema, fake, and the iterations over one of the implementations.

Every implementation has the same three passes: ``columns``, ``rows`` and ``masses``.
"""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from ..._operator import accumulation_dtype, plain
from ...distributed import Ranks, stack_ranks
from .reference import sinkhorn_reference
from .sums import largest, moved

_library = torch.library.Library("sslkernels", "FRAGMENT")
_library.define(
    "sinkhorn(Tensor logits, float epsilon, int iterations, Tensor? rows, str impl,"
    " str route='', str group='', int ranks=0) -> Tensor"
)


def _sinkhorn(logits, epsilon, iterations, rows, impl, *ranks):
    with plain(logits):
        if impl == "reference":
            return sinkhorn_reference(logits, epsilon, iterations, rows)
        kernels = import_module(f".{impl}", __package__)
        log_mass = over_ranks(kernels.columns(logits, epsilon, rows).log(), *ranks)
        center, relative = moved(0.0, log_mass, epsilon), 0.0
        for _ in range(iterations - 1):
            log_mass = over_ranks(kernels.masses(logits, center, epsilon, rows).log(), *ranks)
            center = moved(center, log_mass - relative, epsilon)
            relative = largest(log_mass)
        return center


def over_ranks(x: Tensor, *ranks) -> Tensor:
    """The log-sum-exp over ranks, entry by entry."""
    return torch.logsumexp(stack_ranks(x, Ranks(*ranks)), 0) if any(ranks) else x


def _fake(logits, *_):
    groups, _, width = logits.shape
    return logits.new_empty((groups, width), dtype=accumulation_dtype(logits))


for _key in ("CPU", "CUDA"):
    _library.impl("sinkhorn", _sinkhorn, _key)
torch.library.register_fake("sslkernels::sinkhorn", _fake, lib=_library)

sinkhorn_op = torch.ops.sslkernels.sinkhorn.default
