"""The loss as one operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._operator import fused_loss
from .kernels import fused_kernels
from .problem import Contrastive


def contrastive(
    query: Tensor,
    other: Tensor | None,
    key: Tensor | None,
    positive: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    scale_value: float,
    bias_value: float,
    labels: Tensor | None,
    weights: Tensor | None,
    offset: int,
    exclude: Sequence[int],
    form: str,
    flags: Sequence[bool],
    wanted: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor]:
    problem = Contrastive(
        query,
        other,
        key,
        positive,
        scale_value if scale is None else scale,
        bias_value if bias is None else bias,
        labels,
        weights,
        offset,
        exclude,
        form,
        *flags,
    )
    return fused_kernels(impl).contrastive(problem, wanted)


_loss = fused_loss(contrastive, tensors=6)


def fused(p: Contrastive, impl: str) -> Tensor:
    """The loss of one process, by an implementation that computes it as a whole."""
    scale, scale_value = _scalar(p.scale, p.query)
    bias, bias_value = _scalar(p.bias, p.query)
    return _loss(
        p.query,
        p.other,
        p.key,
        p.positive,
        scale,
        bias,
        scale_value,
        bias_value,
        p.labels,
        p.weights,
        p.offset,
        p.exclude,
        p.form,
        (p.columns, p.skip_alone, p.unit_query, p.unit_key, p.unit_positive),
        impl,
    )


def _scalar(value: float | Tensor, x: Tensor) -> tuple[Tensor | None, float]:
    """As a tensor or a number; a tensor in a compiled graph, which would specialise on numbers."""
    if isinstance(value, Tensor):
        return (value if value.device == x.device else value.to(x.device)), 0.0
    if torch.compiler.is_compiling():
        return x.new_ones((), dtype=torch.float32) * value, 0.0
    return None, value
