"""The same operator on features and prototypes; logits are computed a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..._operator import RANKS, accumulation_dtype, operator, plain
from .._prototypes import Prototypes, chunks
from .kernels import kernels
from .op import over_ranks
from .sums import LogSum, largest, merge, moved


class _Head:
    """The passes over logits that are computed on the fly."""

    def __init__(
        self,
        features: Tensor,
        prototypes: Tensor,
        magnitude: Tensor | None,
        epsilon: float | Tensor,
        count: Tensor | None,
        impl: str,
    ) -> None:
        self.features, self.prototypes = features, Prototypes(prototypes, magnitude)
        self.epsilon, self.count = epsilon, count
        self.kernels = kernels(impl)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """A chunk of prototypes, and their logits (1, N, k)."""
        memory = self.features.new_empty(0, dtype=accumulation_dtype(self.features))
        # tensor cores take operands of one dtype
        dtype = self.features.dtype if memory.is_cuda else memory.dtype
        sizes = len(self.features), len(self.prototypes.weight)
        for columns in chunks(*sizes, memory.device):
            logits = memory.resize_(len(self.features), columns.stop - columns.start)
            self.kernels.product(self.features, self.prototypes.part(columns, dtype).T, logits)
            yield columns, logits[None]

    def log_masses(self, logits: Tensor, center: Tensor, sums: LogSum | None) -> Tensor:
        """The update of the centre for a chunk; the centre starts at 0."""
        if sums is None:
            return self.kernels.columns(logits, self.epsilon, self.count).log()
        return self.kernels.masses(logits, center, self.epsilon, self.count, sums).log()

    def rows(self, logits: Tensor, center: Tensor) -> LogSum:
        return self.kernels.rows(logits, center, self.epsilon)


def _sinkhorn(
    features: Tensor,
    prototypes: Tensor,
    magnitude: Tensor | None,
    on_device: Tensor | None,
    number: float,
    iterations: int,
    rows: Tensor | None,
    impl: str,
    *ranks: Any,
) -> Any:
    epsilon = number if on_device is None else on_device
    with plain(features):
        head = _Head(features, prototypes, magnitude, epsilon, rows, impl)
        center = _fake(features, prototypes).zero_()
        relative: Tensor | float = 0.0
        sums: LogSum | None = None
        for i in range(iterations):
            last, parts = i == iterations - 1, []
            next_sums: LogSum | None = None
            for columns, logits in head.chunks():
                parts.append(head.log_masses(logits, center[:, columns], sums))
                if not last and not ranks:  # while the logits exist
                    part = moved(center[:, columns], parts[-1] - relative, epsilon)
                    more = head.rows(logits, part)
                    next_sums = more if next_sums is None else merge(next_sums, more)
            log_mass = over_ranks(torch.cat(parts, 1), *ranks)
            center = moved(center, log_mass - relative, epsilon)
            if i > 0:
                relative = largest(log_mass)
            if not last and ranks:
                for columns, logits in head.chunks():
                    more = head.rows(logits, center[:, columns])
                    next_sums = more if next_sums is None else merge(next_sums, more)
            sums = next_sums
        return center


def _fake(features: Tensor, prototypes: Tensor, *_: Any) -> Any:
    return features.new_empty((1, prototypes.shape[0]), dtype=accumulation_dtype(features))


prototype_sinkhorn_op = operator(
    "prototype_sinkhorn(Tensor features, Tensor prototypes, Tensor? magnitude, Tensor? on_device,"
    f" float epsilon, int iterations, Tensor? rows, str impl, {RANKS}) -> Tensor",
    _sinkhorn,
    _fake,
)
