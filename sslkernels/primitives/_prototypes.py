"""Logits of features and prototypes, computed for a chunk of prototypes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_devices, check_tensors
from .._operator import accumulation_dtype
from ._arguments import check_tensor

CHUNK_BYTES = {"cpu": 3 << 20, "cuda": 128 << 20}  # of logits
FEWEST = 192  # prototypes in a chunk, for an efficient matrix product


class Prototypes(NamedTuple):
    """The rows of ``weight``, normalised to the length ``magnitude`` if it is given."""

    weight: Tensor  # (K, D)
    magnitude: Tensor | None  # (K,), as in torch's weight_norm

    def detached(self) -> Prototypes:
        magnitude = self.magnitude
        return Prototypes(self.weight.detach(), None if magnitude is None else magnitude.detach())

    def part(self, columns: slice, dtype: torch.dtype) -> Tensor:
        """The prototypes of a chunk, (k, D)."""
        weight = self.weight[columns]
        if self.magnitude is None:
            return weight.to(dtype)
        direction, factor = self._direction(columns, self.magnitude)
        return (direction * factor[:, None]).to(dtype)

    def gradients(self, columns: slice, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gradients of weight (k, D) and magnitude (k,), from the gradient of that chunk."""
        if self.magnitude is None:
            return grad, None
        direction, factor = self._direction(columns, self.magnitude)
        along = torch.linalg.vecdot(grad, direction)
        lengths = torch.linalg.vector_norm(self.weight[columns].to(grad.dtype), dim=1)
        grad = (grad - direction * along[:, None]) * (factor / lengths)[:, None]
        return grad, along

    def _direction(self, columns: slice, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows (k, D) and the magnitudes (k,), in the dtype of computation."""
        weight, magnitude = self.weight[columns], magnitudes[columns]
        wide = weight.to(accumulation_dtype(weight))
        return wide / torch.linalg.vector_norm(wide, dim=1, keepdim=True), magnitude.to(wide.dtype)


def chunk_size(rows: int, device: str) -> int:
    """The number of prototypes in a chunk."""
    return max(FEWEST, _bytes(device) // (4 * rows) // FEWEST * FEWEST)


def is_one_chunk(rows: int, count: int, device: str) -> bool:
    """Whether all logits fit in one chunk and are kept; not if even FEWEST prototypes exceed it."""
    return count <= chunk_size(rows, device) and 4 * rows * count <= _bytes(device)


def _bytes(device: str) -> int:
    return CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"])


def chunks(rows: int, count: int, device: torch.device) -> Iterator[slice]:
    """Chunks of ``count`` prototypes whose logits for ``rows`` rows fit the cache."""
    size = chunk_size(rows, device.type)
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def check_prototypes(
    features: str, x: Tensor, name: str, weight: Tensor, magnitude: Tensor | None
) -> Prototypes:
    """Raise unless x, named ``features``, is (…, D) and the prototypes fit it."""
    check_tensor(name, weight)
    if weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"{features} (…, D) and {name} (K, D) must agree in D, "
            f"got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    if weight.device != x.device:
        raise ValueError(
            f"{features} and {name} must be on one device, got {x.device} and {weight.device}"
        )
    if (weight.dtype == torch.float64) != (x.dtype == torch.float64):
        raise TypeError(
            f"{features} and {name} must both be float64, or neither; "
            f"got {x.dtype} and {weight.dtype}"
        )
    if magnitude is not None:
        check_tensors(**{f"the magnitude of {name}": magnitude})
        check_devices(**{features: x, f"the magnitude of {name}": magnitude})
        if magnitude.shape not in ((len(weight),), (len(weight), 1)):
            raise ValueError(
                f"the magnitude of {name} must be (K,) or (K, 1) with K = {len(weight)}, "
                f"got {tuple(magnitude.shape)}"
            )
        magnitude = magnitude.reshape(-1)
    return Prototypes(weight, magnitude)
