"""The loss as one operator: its gradients are made with it, and a backward pass scales them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._operator import Differentiable, operator
from . import cpu
from .problem import Contrastive


class Wanted(NamedTuple):
    """Which derivatives are made: by both views of the queries, keys, positives, scale and bias."""

    query: bool
    key: bool
    positive: bool
    scalars: bool

    def sizes(self, p: Contrastive) -> list[int]:
        """How many numbers each is: of query, other, key, positive, scale and bias."""
        tensors = (p.query, p.other, p.key, p.positive)
        wanted = (self.query, self.query, self.key, self.positive)
        sizes = [
            x.numel() if want and x is not None else 0
            for x, want in zip(tensors, wanted, strict=True)
        ]
        return [*sizes, int(self.scalars), int(self.scalars)]


# (loss (), derivatives): float32, the latter one after the other as Wanted.sizes has them.
Implementation = Callable[[Contrastive, Wanted], tuple[Tensor, Tensor]]
FUSED: dict[str, Implementation] = {"cpu": cpu.contrastive}


def contrastive(
    query: Tensor,
    other: Tensor | None,
    key: Tensor | None,
    positive: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    labels: Tensor | None,
    weights: Tensor | None,
    scale_value: float,
    bias_value: float,
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
    return FUSED[impl](problem, Wanted(*wanted))


def _fake(query, other, key, positive, *rest):
    wanted = Wanted(*rest[-2])
    size = sum(wanted.sizes(Contrastive(query, other, key, positive)))
    return query.new_empty((), dtype=torch.float32), query.new_empty(size, dtype=torch.float32)


_operator = operator(contrastive, _fake)


class ContrastiveLoss(Differentiable):
    """The loss, and its derivatives, which nobody sees."""

    @staticmethod
    def forward(*arguments):
        return _operator(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.wanted = inputs[-2]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1], *inputs[:6])

    @staticmethod
    def gradients(ctx, saved, grad, _):
        derivatives, *inputs = saved
        out = [None] * len(ctx.needs_input_grad)
        if grad is None:
            return tuple(out)
        sizes = Wanted(*ctx.wanted).sizes(Contrastive(*inputs[:4]))
        parts = (derivatives * grad).split_with_sizes(sizes)
        for i, (x, part) in enumerate(zip(inputs, parts, strict=True)):
            if ctx.needs_input_grad[i]:
                out[i] = part.view(x.shape).to(x.dtype)
        return tuple(out)


def fused(p: Contrastive, impl: str) -> Tensor:
    """The loss of one process, by an implementation that makes all of it at once."""
    scale, scale_value = _scalar(p.scale, p.query)
    bias, bias_value = _scalar(p.bias, p.query)
    if torch.is_grad_enabled():
        wanted = (
            _has_gradient(p.query) or _has_gradient(p.other),
            _has_gradient(p.key),
            _has_gradient(p.positive),
            _has_gradient(scale) or _has_gradient(bias),
        )
    else:
        wanted = (False, False, False, False)
    return ContrastiveLoss.apply(
        p.query,
        p.other,
        p.key,
        p.positive,
        scale,
        bias,
        p.labels,
        p.weights,
        scale_value,
        bias_value,
        p.offset,
        p.exclude,
        p.form,
        (p.columns, p.skip_alone, p.unit_query, p.unit_key, p.unit_positive),
        wanted,
        impl,
    )[0]


def _has_gradient(x: Tensor | None) -> bool:
    return x is not None and x.requires_grad


def _scalar(value: float | Tensor, x: Tensor) -> tuple[Tensor | None, float]:
    """As a tensor or as a number: of a compiled graph a tensor, lest each number compiles anew."""
    if isinstance(value, Tensor):
        return (value if value.device == x.device else value.to(x.device)), 0.0
    if torch.compiler.is_compiling():
        return x.new_full((), value, dtype=torch.float32), 0.0
    return None, value
