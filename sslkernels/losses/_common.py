"""Shared by the losses: argument checks, precision, and the settings of distributed losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_choice, check_flags, check_tensors
from .._operator import accumulation_dtype
from ..distributed import Gather, mean_over_ranks, ranks_of, scale_gradient
from ..distributed.gather import ROUTES
from ..primitives._arguments import IMPLEMENTATIONS
from ..primitives._rows import unit as unit_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Gathering(TypedDict, total=False):
    """The settings of a :class:`GatheringLoss` that its subclasses pass on."""

    gather: str | None
    group: ProcessGroup | None
    grad_scale: str
    impl: str


class GatheringLoss(nn.Module):
    """A loss whose batch may be spread over ranks.

    Args:
        gather_distributed: include all ranks' embeddings, with exact gradients.
        gather: ``"all"`` (one collective) or ``"ring"`` (no rank ever holds the global batch);
            naming one implies ``gather_distributed=True``.
        group: the process group of the ranks that share a batch; None means all ranks.
        grad_scale: ``"mean"`` gives the global batch's gradient after DistributedDataParallel's
            mean; ``"reference"`` divides the embeddings' gradients by the number of ranks.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Raises:
        TypeError, ValueError: an unknown ``gather`` or ``grad_scale``, or a setting that the loss
            does not support.
    """

    def __init__(
        self,
        gather_distributed: bool = False,
        *,
        gather: str | None = None,
        group: ProcessGroup | None = None,
        grad_scale: str = "mean",
        impl: str = "auto",
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise TypeError(_unknown_settings(type(self), unknown))
        check_flags(gather_distributed=gather_distributed)
        check_choice("impl", impl, IMPLEMENTATIONS)
        if gather is not None:
            check_choice("gather", gather, ROUTES)
        settings = Gather(gather or "all", group, grad_scale)
        self.gather = settings if gather_distributed or gather else None
        self.impl = impl

    def extra_repr(self) -> str:
        return settings(self)


def settings(loss: nn.Module) -> str:
    """The constructor arguments of a loss that differ from the defaults, as source text."""
    given = {}
    for name, default in _settings_of(type(loss)).items():
        value = getattr(loss, name, default)
        if isinstance(value, Tensor):
            given[name] = f"tensor({value.item():g})" if not value.is_meta else "tensor()"
        elif value is not default and value != default and not isinstance(value, nn.Module):
            given[name] = repr(value)
    return ", ".join(f"{name}={value}" for name, value in given.items())


def _settings_of(loss: type) -> dict[str, Any]:
    """Names and defaults of a constructor's parameters, including those it passes to its bases."""
    found: dict[str, Any] = {}
    for kind in loss.__mro__:
        if "__init__" not in vars(kind) or kind is nn.Module:
            continue
        parameters = list(signature(vars(kind)["__init__"]).parameters.values())
        for x in parameters[1:]:
            if x.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                found.setdefault(x.name, x.default)
        if not any(x.kind is Parameter.VAR_KEYWORD for x in parameters):
            break
    for name in ("gather_distributed", "sinkhorn_gather_distributed", "group", "grad_scale"):
        found.pop(name, None)  # they are in gather
    return found


def _unknown_settings(loss: type, unknown: dict[str, Any]) -> str:
    known, name = list(signature(loss).parameters), next(iter(unknown))
    known = [x for x in known if x not in ("gathering", "options", "arguments")]
    known += [x for x in signature(GatheringLoss).parameters if x not in (*known, "unknown")]
    near = get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(known)}"
    return f"{loss.__name__} takes no argument {name}{hint}"


def unit(x: Tensor, gather: Gather | None = None) -> Tensor:
    """Rows normalised to unit length, in x's dtype; a zero row stays zero."""
    return unit_rows(scale_gradient(x, gather))


def cross_entropy(positives: Tensor, negatives: Tensor) -> Tensor:
    """``−log [e^p / (e^p + e^n)]`` per row, where n is the log-sum-exp of the negatives.

    Accurate where the positive dominates, unlike the log-sum-exp of all keys minus p.
    """
    return F.softplus(negatives - positives, threshold=50)


def mean_loss(rows: Tensor, x: Tensor, gather: Gather | None) -> Tensor:
    """The mean of per-row losses of embeddings x, in float32 (float64 if x is)."""
    return mean_over_ranks(rows, gather).to(accumulation_dtype(x))


def check_embeddings(**embeddings: Tensor) -> None:
    """Check for two-dimensional floating-point tensors of one shape, dtype and device."""
    _check_alike("(N, D)", lambda x: x.dim() == 2, embeddings)


def check_views(**views: Tensor) -> None:
    """As :func:`check_embeddings`, for tensors that may have more dimensions in between."""
    _check_alike("(N, …, D)", lambda x: x.dim() >= 2, views)


def check_batch(name: str, x: Tensor, gather: Gather | None) -> None:
    """Check for at least two rows in total; with several ranks, each holds at least one."""
    if len(x) < 2 and ranks_of(gather) is None:
        raise ValueError(f"{name} needs at least 2 rows, got {len(x)}")


def _check_alike(shape: str, fits: Callable[[Tensor], bool], embeddings: dict[str, Tensor]) -> None:
    check_tensors(**embeddings)
    first, *_ = embeddings.values()
    for x in embeddings.values():
        if not fits(x) or 0 in x.shape or x.shape != first.shape:
            raise ValueError(
                f"{_all(embeddings)} must have the same shape {shape}, no dimension of which is 0; "
                f"got {_all(tuple(x.shape) for x in embeddings.values())}"
            )
        if x.dtype != first.dtype:
            raise TypeError(
                f"{_all(embeddings)} must have one dtype, "
                f"got {_all(x.dtype for x in embeddings.values())}"
            )
        if x.device != first.device:
            raise ValueError(
                f"{_all(embeddings)} must be on one device, got "
                f"{_all(x.device for x in embeddings.values())}"
            )


def _all(values: Iterable[object]) -> str:
    return " and ".join(map(str, values))


def lasting(x: Tensor) -> Tensor:
    """x for a buffer: a copy if it is an inference tensor, which training could not use."""
    if torch.compiler.is_compiling() or not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()


def as_scalar(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A number unchanged; a tensor in float64, since large terms cancel in its gradient."""
    return value.to(x.device, torch.float64).reshape(()) if isinstance(value, Tensor) else value


def inverse(temperature: float | Tensor, x: Tensor) -> float | Tensor:
    """The factor on the logits of x: the inverse of :func:`as_scalar` of the temperature."""
    return 1 / as_scalar(temperature, x)
