"""One call of the C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import address, extension, matrix
from ..._operator import parts
from .problem import Contrastive

FORMS = {"cross_entropy": 0, "decoupled": 1, "sigmoid": 2}
WORKSPACE = 64 << 20  # bytes: scores that fit are kept for the gradients, others recomputed
NO_MATRIX = (0, 0, 0, 0, 0, 0)


def takes(p: Contrastive) -> bool:
    return True


def contrastive(p: Contrastive, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    weights = None if p.weights is None else p.weights.to(torch.float32).contiguous()
    inputs = (p.query, p.other, p.key, p.positive, p.scale, p.bias)
    derivatives, addresses = parts(inputs, wanted)
    loss = p.query.new_empty((), dtype=torch.float32)
    extension().contrastive(
        [matrix(p.query)] if p.other is None else [matrix(p.query), matrix(p.other)],
        NO_MATRIX if p.key is None else matrix(p.key),
        NO_MATRIX if p.positive is None else matrix(p.positive),
        (p.offset, address(p.labels), address(weights)),
        p.exclude,
        (FORMS[p.form], p.columns, p.skip_alone),
        (p.unit_query, p.unit_key, p.unit_positive),
        float(p.scale),
        float(p.bias),
        torch.get_num_threads(),
        WORKSPACE,
        loss.data_ptr(),
        addresses,
    )
    return loss, derivatives
