"""What the losses share: checks, precision, and the settings of every loss that gathers."""

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
        TypeError, ValueError: an unknown ``gather`` or ``grad_scale``, or a setting that the loss
            does not have.
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
    """The arguments of a loss's constructor that are not the default, as they would be given."""
    given = {}
    for name, default in _settings_of(type(loss)).items():
        value = getattr(loss, name, default)
        if isinstance(value, Tensor):
            given[name] = f"tensor({value.item():g})" if not value.is_meta else "tensor()"
        elif value is not default and value != default and not isinstance(value, nn.Module):
            given[name] = repr(value)
    return ", ".join(f"{name}={value}" for name, value in given.items())


def _settings_of(loss: type) -> dict[str, Any]:
    """Names and defaults of what a constructor takes, and hands on to those of its bases."""
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
    check_tensors(**embeddings)
    first, *_ = embeddings.values()
    for x in embeddings.values():
        if not fits(x) or 0 in x.shape or x.shape != first.shape:
            raise ValueError(
                f"{_all(embeddings)} must have one shape {shape}, no dimension of which is 0; got "
                f"{_all(tuple(x.shape) for x in embeddings.values())}"
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
    """x for a buffer: training could not use what an inference mode has made."""
    if torch.compiler.is_compiling() or not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()


def as_scalar(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A number as it is; a tensor in float64, as whose gradient large parts cancel."""
    return value.to(x.device, torch.float64).reshape(()) if isinstance(value, Tensor) else value


def inverse(temperature: float | Tensor, x: Tensor) -> float | Tensor:
    """The factor of the logits of x, which :func:`as_scalar` has of the temperature."""
    return 1 / as_scalar(temperature, x)
