"""What the losses share: checks, precision, and the settings of every loss that gathers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._operator import accumulation_dtype
from ..distributed import Gather, mean_over_ranks, ranks_of, scale_gradient
from ..primitives._rows import unit as unit_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Gathering(TypedDict, total=False):
    """The settings of a :class:`GatheringLoss` that its subclasses hand on."""

    gather: str | None
    group: ProcessGroup | None
    grad_scale: str
    impl: str


class GatheringLoss(nn.Module):
    """A loss whose batch may be spread over ranks.

    Args:
        gather_distributed: let all ranks' embeddings take part, with exact gradients.
        gather: ``"all"`` (by one collective) or ``"ring"`` (no rank ever holds the global batch);
            naming one implies ``gather_distributed=True``.
        group: the ranks that share a batch, a process group; None means all.
        grad_scale: ``"mean"``, the global batch's gradient after DistributedDataParallel's mean;
            or ``"reference"``, embeddings' gradients divided by the number of ranks.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Raises:
        ValueError: an unknown ``gather`` or ``grad_scale``.
    """

    def __init__(
        self,
        gather_distributed: bool = False,
        *,
        gather: str | None = None,
        group: ProcessGroup | None = None,
        grad_scale: str = "mean",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        settings = Gather(gather or "all", group, grad_scale)
        self.gather = settings if gather_distributed or gather else None
        self.impl = impl

    def extra_repr(self) -> str:
        shown = {"temperature": getattr(self, "temperature", None), "gather": self.gather}
        return ", ".join(f"{key}={value}" for key, value in shown.items() if value is not None)


def full_precision(x: Tensor) -> torch.autocast:
    """Autocast off: losses compute in float32 whatever surrounds them."""
    return torch.autocast(x.device.type, enabled=False)


def unit(x: Tensor, gather: Gather | None = None) -> Tensor:
    """Rows of length one, in x's dtype; a zero row stays zero."""
    return unit_rows(scale_gradient(x, gather))


def cross_entropy(positives: Tensor, negatives: Tensor) -> Tensor:
    """``−log [e^p / (e^p + e^n)]`` per row, n being the negatives' log-sum-exp.

    Accurate where a positive dominates, as log-sum-exp of everything minus p is not.
    """
    return F.softplus(negatives - positives, threshold=50)


def mean_loss(rows: Tensor, x: Tensor, gather: Gather | None) -> Tensor:
    """The loss of rows that embeddings x led to: their mean, in float32 (float64 if x is)."""
    return mean_over_ranks(rows, gather).to(accumulation_dtype(x))


def check_embeddings(**embeddings: Tensor) -> None:
    """Two-dimensional floating-point tensors of one shape, dtype and device."""
    _check_alike("(N, D)", lambda x: x.dim() == 2, embeddings)


def check_views(**views: Tensor) -> None:
    """The same of tensors that may have dimensions in between."""
    _check_alike("(N, …, D)", lambda x: x.dim() >= 2, views)


def check_batch(name: str, x: Tensor, gather: Gather | None) -> None:
    """At least two rows, among ranks that all hold some."""
    if len(x) < 2 and ranks_of(gather) is None:
        raise ValueError(f"{name} needs at least 2 rows, got {len(x)}")


def _check_alike(shape: str, fits: Callable[[Tensor], bool], embeddings: dict[str, Tensor]) -> None:
    for name, x in embeddings.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    first, *_ = embeddings.values()
    for x in embeddings.values():
        if not fits(x) or 0 in x.shape or x.shape != first.shape:
            raise ValueError(
                f"{_all(embeddings)} must have one shape {shape}, no dimension of which is 0; got "
                f"{_all(tuple(x.shape) for x in embeddings.values())}"
            )
        if x.dtype != first.dtype or x.dtype not in DTYPES:
            raise TypeError(
                f"{_all(embeddings)} must have one dtype of float16, bfloat16, float32, float64; "
                f"got {_all(x.dtype for x in embeddings.values())}"
            )
        if x.device != first.device:
            raise ValueError(
                f"{_all(embeddings)} must be on one device, got "
                f"{_all(x.device for x in embeddings.values())}"
            )


def _all(values: Iterable[object]) -> str:
    return " and ".join(map(str, values))


def check_temperature(temperature: float | Tensor) -> None:
    # A tensor's value is the user's care: to read it would stall the device at every step.
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(f"temperature must have one element, got {tuple(temperature.shape)}")
    elif not 1e-8 <= abs(temperature) < math.inf:
        raise ValueError(f"temperature must be finite with |T| >= 1e-8, got {temperature}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def as_scalar(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A number as it is; a tensor in float64, as whose gradient large parts cancel."""
    check_scalar(value)
    return value.to(x.device, torch.float64).reshape(()) if isinstance(value, Tensor) else value


def check_scalar(value: float | Tensor) -> None:
    if isinstance(value, Tensor) and (value.numel() != 1 or not value.is_floating_point()):
        raise ValueError(
            "a temperature, scale or bias must be a number or a floating-point tensor with one "
            f"element, got shape {tuple(value.shape)} of {value.dtype}"
        )


def inverse(temperature: float | Tensor, x: Tensor) -> float | Tensor:
    """The factor of the logits of x, which :func:`as_scalar` has of the temperature."""
    return 1 / as_scalar(temperature, x)
