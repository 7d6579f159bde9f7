"""Snapshots of a module's buffers (running statistics, queues, centres), to be restored."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


class Buffers:
    """A snapshot of the buffers of a module.

    ``restore`` undoes writes to a buffer as well as its replacement by another tensor.
    """

    def __init__(self, module: nn.Module):
        self._places = list(_places(module))
        self._tensors = [owner._buffers[name] for owner, name in self._places]
        self._values = [None if x is None else torch.empty_like(x) for x in self._tensors]
        self._copy(self._values, self._tensors)

    def restore(self) -> None:
        for (owner, name), tensor in zip(self._places, self._tensors, strict=True):
            owner._buffers[name] = tensor
        self._copy(self._tensors, self._values)

    @staticmethod
    @torch.no_grad()
    def _copy(to: list[Tensor | None], source: list[Tensor | None]) -> None:
        pairs = [(a, b) for a, b in zip(to, source, strict=True) if a is not None and b is not None]
        alike: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
        for a, b in pairs:  # one launch for each device and dtype
            alike.setdefault((a.device, a.dtype), []).append((a, b))
        for group in alike.values():
            torch._foreach_copy_([a for a, _ in group], [b for _, b in group])


class FiniteBuffers:
    """Checks whether the buffers of a module stay finite.

    Buffers that are not finite initially, such as a mask of −∞, are left out.
    """

    def __init__(self, module: nn.Module):
        self._places = [
            (owner, name)
            for owner, name in _places(module)
            if (x := owner._buffers[name]) is not None
            and x.is_floating_point()
            and bool(x.isfinite().all())
        ]

    def largest(self, like: Tensor) -> Tensor:
        """The largest absolute entry of all buffers; not finite if one is not. No synchronisation.

        On the device and of the dtype of ``like``.
        """
        places = (owner._buffers[name] for owner, name in self._places)
        found = [x for x in places if x is not None and x.numel()]
        return get_total_norm(found, math.inf).to(like) if found else like.new_zeros(())


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for owner in module.modules():
        for name in owner._buffers:
            yield owner, name
