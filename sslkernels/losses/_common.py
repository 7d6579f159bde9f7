"""What the losses share: checks, precision, and the settings of every loss that gathers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..distributed import Gather, mean_over_ranks, ranks_of, scale_gradient
from ..primitives._operator import accumulation_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
    return _Unit.apply(scale_gradient(x, gather))[0]


class _Unit(torch.autograd.Function):
    """F.normalize in a third of its passes."""

    @staticmethod
    def forward(x):
        wide = x.to(accumulation_dtype(x))
        norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min_(1e-12)
        return (wide / norms).to(x.dtype), norms

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        z, norms = ctx.saved_tensors
        grad, z = grad.to(norms.dtype), z.to(norms.dtype)
        with full_precision(z):  # torch.compile's backward may be in autocast
            along = torch.linalg.vecdot(grad, z)[:, None]
        return torch.addcmul(grad, z, along, value=-1).div_(norms).to(ctx.saved_tensors[0].dtype)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a_i, b_i⟩ for every row, as float64: sums over rows that cancel then do not round."""
    dtype = accumulation_dtype(a)
    return torch.linalg.vecdot(a.to(dtype), b.to(dtype)).double()


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
    names, tensors = " and ".join(embeddings), list(embeddings.values())
    shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
    if any(not fits(x) or 0 in x.shape or x.shape != tensors[0].shape for x in tensors):
        raise ValueError(
            f"{names} must have one shape {shape}, no dimension of which is 0; got {shapes}"
        )
    if any(x.dtype != tensors[0].dtype or x.dtype not in DTYPES for x in tensors):
        dtypes = " and ".join(str(x.dtype) for x in tensors)
        raise TypeError(
            f"{names} must have one dtype of float16, bfloat16, float32, float64; got {dtypes}"
        )
    if any(x.device != tensors[0].device for x in tensors):
        devices = " and ".join(str(x.device) for x in tensors)
        raise ValueError(f"{names} must be on one device, got {devices}")


def check_temperature(temperature: float | Tensor) -> None:
    # A tensor's value is the user's care: to read it would stall the device at every step.
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(f"temperature must have one element, got {tuple(temperature.shape)}")
    elif not (math.isfinite(temperature) and abs(temperature) >= 1e-8):
        raise ValueError(f"temperature must be finite with |T| >= 1e-8, got {temperature}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def as_scalar(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A number as it is; a tensor in float64, as whose gradient large parts cancel."""
    if not isinstance(value, Tensor):
        return value
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(
            "a temperature, scale or bias must be a number or a floating-point tensor with one "
            f"element, got shape {tuple(value.shape)} of {value.dtype}"
        )
    return value.to(x.device, torch.float64).reshape(())
